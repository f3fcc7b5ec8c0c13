"""The coresets of shards as files named by what they are made of: made once, read ever after."""

import hashlib
import json
import shutil
from dataclasses import dataclass

from safetensors.torch import load, save

from pipeline.artifacts import Artifact, ArtifactError
from pipeline.quantizer.coreset import Coreset

FOLDER = "coresets"
# What a coreset is made of beside its frames; a new number makes them all anew.
VERSION = 1


@dataclass(frozen=True)
class CoresetStore:
    """The folder `coresets/` of a codebook stage's output."""

    output: Artifact

    @staticmethod
    def key(checksum: str, layer: int, size: int, seed: int) -> str:
        """The name of the coreset of a shard with that SHA-256."""
        made_of = json.dumps([checksum, layer, size, seed, VERSION])
        return hashlib.sha256(made_of.encode()).hexdigest()[:24]

    def keys(self) -> list[str]:
        """All there are, sorted."""
        return sorted(name.rpartition("/")[2].split(".")[0] for name in self.output.names(FOLDER))

    def write(self, key: str, coreset: Coreset) -> None:
        tensors = {"frames": coreset.frames_MD.cpu(), "weights": coreset.weights_M.cpu()}
        metadata = {"num_rejected": str(coreset.num_rejected)}
        with self.output.write(_name(key)) as file:
            file.write(save(tensors, metadata))

    def read(self, key: str) -> Coreset:
        with self.output.read(_name(key)) as file:
            content = file.read()
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return Coreset(
            tensors["frames"], tensors["weights"], int(header["__metadata__"]["num_rejected"])
        )

    def take_over(self, earlier: "CoresetStore") -> int:
        """Copy what `earlier` has and this store lacks; returns how many that were.

        Raises:
            ArtifactError: `earlier` holds none at all.
        """
        if not earlier.keys():
            raise ArtifactError(
                f"{earlier.output.uri} holds no coresets: name the output folder of a codebook "
                "that was fitted with method 'coreset'"
            )
        new = sorted(set(earlier.keys()) - set(self.keys()))
        for key in new:
            with earlier.output.read(_name(key)) as source, self.output.write(_name(key)) as target:
                shutil.copyfileobj(source, target)
        return len(new)


def _name(key: str) -> str:
    return f"{FOLDER}/{key}.safetensors"
