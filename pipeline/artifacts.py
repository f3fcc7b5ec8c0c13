"""A stage's output folder: written aside, moved into place, named whole by a manifest written last.

A folder lies at `<storage>/<stage>/<digest>`, where storage is a local path or any fsspec URI
(`s3://…`). Files are addressed by names relative to the folder.
"""

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.schema import COMPRESSION

MANIFEST = "manifest.json"
METRICS = "metrics.json"


class ArtifactError(RuntimeError):
    """An output is missing or damaged; the message names it and the cure."""


@dataclass(frozen=True)
class Artifact:
    """One output folder, whole or in the making."""

    uri: str

    @property
    def filesystem(self) -> fsspec.AbstractFileSystem:
        return fsspec.core.url_to_fs(self.uri)[0]

    def path(self, name: str = "") -> str:
        """The address of `name` on `filesystem` (absolute path, or bucket/key)."""
        root = str(fsspec.core.url_to_fs(self.uri)[1])
        return f"{root}/{name}" if name else root

    def is_whole(self) -> bool:
        """Whether the manifest stands, which is written only after every other file."""
        return bool(self.filesystem.exists(self.path(MANIFEST)))

    def exists(self, name: str) -> bool:
        return bool(self.filesystem.exists(self.path(name)))

    def names(self, folder: str = "") -> list[str]:
        """Every file below `folder`, relative to the artifact, sorted; aside files left out."""
        root = self.path()
        if not self.filesystem.exists(self.path(folder)):
            return []
        found = self.filesystem.find(self.path(folder))
        names = (path[len(root) :].lstrip("/") for path in found)
        return sorted(name for name in names if not _is_aside(name))

    @contextmanager
    def write(self, name: str) -> Iterator[IO[bytes]]:
        """A binary file that appears under `name` whole or not at all."""
        filesystem, target = self.filesystem, self.path(name)
        folder, _, leaf = target.rpartition("/")
        filesystem.makedirs(folder, exist_ok=True)
        if not _is_local(filesystem):
            # An object store shows an object when its upload is complete, never before; an
            # exception must discard the upload, which closing the file would complete.
            file = filesystem.open(target, "wb")
            try:
                yield file
            except BaseException:
                file.discard()
                file.closed = True  # or its finaliser would try to complete the upload after all
                raise
            file.close()
            return
        aside = f"{folder}/.{leaf}.{uuid.uuid4().hex[:8]}.aside"
        try:
            with filesystem.open(aside, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(aside).replace(target)
        finally:
            Path(aside).unlink(missing_ok=True)

    @contextmanager
    def read(self, name: str) -> Iterator[IO[bytes]]:
        """A binary file.

        Raises:
            ArtifactError: there is no such file.
        """
        if not self.exists(name):
            raise ArtifactError(
                f"{self.uri}/{name} is missing: delete {MANIFEST} beside it and run again"
            )
        with self.filesystem.open(self.path(name), "rb") as file:
            yield file

    def write_json(self, name: str, value: Any) -> None:
        with self.write(name) as file:
            file.write(json.dumps(value, indent=2, ensure_ascii=False).encode())

    def read_json(self, name: str) -> Any:
        with self.read(name) as file:
            return json.loads(file.read())

    def write_table(self, name: str, table: pa.Table, row_group_size: int | None = None) -> None:
        # Frames hardly repeat: a dictionary of them takes longer to write and four times as long
        # to read, and is no smaller.
        words = [field.name for field in table.schema if pa.types.is_string(field.type)]
        with self.write(name) as file:
            pq.write_table(
                table,
                file,
                compression=COMPRESSION,
                row_group_size=row_group_size,
                use_dictionary=words,
            )

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        with self.read(name) as file:
            return pq.read_table(file, columns=columns)

    @contextmanager
    def write_folder(self, name: str) -> Iterator[Path]:
        """A local scratch folder whose files appear under `name` when the block ends well.

        On a local storage an older folder of that name is replaced by one rename, so it is
        either the old one or the new one; on an object store files are uploaded one by one, and
        a reader trusts them only once a file that the caller writes last stands.
        """
        filesystem, target = self.filesystem, self.path(name)
        if not _is_local(filesystem):
            with tempfile.TemporaryDirectory() as scratch:
                yield Path(scratch)
                if filesystem.exists(target):
                    filesystem.rm(target, recursive=True)
                for source in sorted(Path(scratch).rglob("*")):
                    if source.is_file():
                        relative = source.relative_to(scratch).as_posix()
                        filesystem.put_file(str(source), f"{target}/{relative}")
            return
        folder = Path(target)
        aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.aside")
        aside.mkdir(parents=True)
        try:
            yield aside
            old = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.aside")
            if folder.exists():
                folder.rename(old)
            aside.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    @contextmanager
    def read_folder(self, name: str) -> Iterator[Path]:
        """The files below `name` as a local folder: itself, or a download that goes afterwards."""
        filesystem, target = self.filesystem, self.path(name)
        if not filesystem.exists(target):
            raise ArtifactError(
                f"{self.uri}/{name} is missing: delete {MANIFEST} beside it and run again"
            )
        if _is_local(filesystem):
            yield Path(target)
            return
        with tempfile.TemporaryDirectory() as scratch:
            filesystem.get(f"{target}/", scratch, recursive=True)
            yield Path(scratch)

    def delete(self, name: str) -> None:
        if self.exists(name):
            self.filesystem.rm(self.path(name), recursive=True)

    def finish(self, description: dict[str, Any]) -> None:
        """Write the manifest: every file with bytes and SHA-256, and what made them."""
        files = {name: self._describe(name) for name in self.names() if name != MANIFEST}
        self.write_json(MANIFEST, {**description, "files": files})

    def _describe(self, name: str) -> dict[str, Any]:
        hasher = hashlib.sha256()
        size = 0
        with self.read(name) as file:
            while chunk := file.read(1 << 20):
                hasher.update(chunk)
                size += len(chunk)
        return {"bytes": size, "sha256": hasher.hexdigest()}

    def metrics(self) -> dict[str, float]:
        """The scores the stage left, empty where it left none."""
        return dict(self.read_json(METRICS)) if self.exists(METRICS) else {}


def artifact(storage: str, stage: str, digest: str) -> Artifact:
    """The output folder of `stage` under `storage`; a local storage is made absolute."""
    root = storage.rstrip("/") if "://" in storage else str(Path(storage).resolve())
    return Artifact(f"{root}/{stage}/{digest}")


def _is_local(filesystem: fsspec.AbstractFileSystem) -> bool:
    protocol = filesystem.protocol
    return "file" in ((protocol,) if isinstance(protocol, str) else protocol)


def _is_aside(name: str) -> bool:
    return any(part.startswith(".") and part.endswith(".aside") for part in name.split("/"))
