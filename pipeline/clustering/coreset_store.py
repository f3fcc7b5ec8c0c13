"""The coresets of shards as files whose names are digests of their content: each is made once."""

import hashlib
import io
import json
import shutil
from dataclasses import dataclass, replace
from typing import IO, Any

from safetensors.torch import load, save

from pipeline.clustering.coreset import Coreset
from pipeline.storage.artifacts import Artifact, ArtifactError

FOLDER = "coresets"
# Raise it when the algorithm changes: all coresets are then made again.
VERSION = 1


@dataclass(frozen=True)
class CoresetStore:
    """The coresets of one kind in the folder `coresets/` of a codebook stage's output.

    The folder may hold coresets of another layer, size or seed. No method returns them: they would
    add other values, or the same shard twice. `encoder` says what made the frames, if that is known.
    """

    output: Artifact
    layer: int
    size: int
    seed: int
    encoder: str = ""

    def key(self, checksum: str) -> str:
        """The name of the coreset of a shard with that SHA-256."""
        return f"{self._kind}-{_digest([self._kind, checksum])[:24]}"

    def keys(self) -> list[str]:
        """The keys of all stored coresets, sorted."""
        names = (name.rpartition("/")[2].split(".")[0] for name in self.output.names(FOLDER))
        return sorted(name for name in names if name.startswith(f"{self._kind}-"))

    def write(self, key: str, coreset: Coreset) -> None:
        tensors = {"frames": coreset.frames_MD.cpu(), "weights": coreset.weights_M.cpu()}
        metadata = {"num_rejected": str(coreset.num_rejected), "encoder": self.encoder}
        with self.output.write(_name(key)) as file:
            file.write(save(tensors, metadata))

    def read(self, key: str) -> Coreset:
        with self.output.read(_name(key)) as file:
            content = file.read()
        tensors = load(content)
        num_rejected = int(_metadata(io.BytesIO(content))["num_rejected"])
        return Coreset(tensors["frames"], tensors["weights"], num_rejected)

    def take_over(self, earlier: Artifact) -> int:
        """Copy the coresets that `earlier` has and this store lacks; returns how many.

        Raises:
            ArtifactError: `earlier` holds none of this kind, or its frames are of another encoder.
        """
        theirs = replace(self, output=earlier).keys()
        if not theirs:
            raise ArtifactError(
                f"{earlier.uri} holds no coresets of {self.size} frames of layer {self.layer} with "
                f"seed {self.seed}: name the output folder of a codebook that was fitted with "
                "method 'coreset', and keep its layer, coreset_frames and seed"
            )
        with earlier.read(_name(theirs[0])) as file:
            encoder = _metadata(file).get("encoder", "")
        if encoder and self.encoder and encoder != self.encoder:
            raise ArtifactError(
                f"{earlier.uri} holds coresets of another encoder's frames: keep its ssl.model, "
                "ssl.pad and features.pool, or fit without codebook.refine"
            )
        new = sorted(set(theirs) - set(self.keys()))
        for key in new:
            with earlier.read(_name(key)) as source, self.output.write(_name(key)) as target:
                shutil.copyfileobj(source, target)
        return len(new)

    @property
    def _kind(self) -> str:
        return _digest([self.layer, self.size, self.seed, VERSION])[:8]


def _metadata(file: IO[bytes]) -> dict[str, str]:
    """What a safetensors file says of itself, at its start."""
    header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    found: dict[str, str] = header["__metadata__"]
    return found


def _digest(made_of: Any) -> str:
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def _name(key: str) -> str:
    return f"{FOLDER}/{key}.safetensors"
