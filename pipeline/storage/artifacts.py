"""A stage's output folder: files appear atomically, and a manifest, written last, makes it complete.

Its address is `<storage>/<stage>/<digest>`, where storage is a local path or any fsspec URI
(`s3://…`). Files are addressed by names relative to the folder.
"""

import errno
import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from pipeline.storage import atomic
from pipeline.storage.folders import Folder, filesystem_and_path
from pipeline.storage.table_schemas import COMPRESSION

MANIFEST = "manifest.json"
METRICS = "metrics.json"
# The traceback of a stage that failed, until it runs again.
ERROR_LOG = "error.log"
# The file by which transformers recognizes a model's folder.
MODEL_CONFIG = "config.json"
# What writers record of single files, with bytes and SHA-256: `records/<name>.json`. They have a
# folder of their own, so that a folder of Parquet files contains nothing else.
RECORDS = "records"
# What a training resumes from.
CHECKPOINTS = "checkpoints"
# What a stage says while it works (`pipeline.log`). No result depends on it.
LOG = "log"
CHECKSUM_THREADS = 16
# On an object store: a reader of some columns should not fetch their neighbours, and a copy is read in
# large blocks.
READ_AHEAD_BYTES = 1 << 20
COPIED_BYTES = 32 << 20
ABANDONED_UPLOAD_SECONDS = 3600.0


class ArtifactError(RuntimeError):
    """An output is missing or damaged; the message names it and the cure."""


class StorageFullError(ArtifactError):
    """The storage is full."""


@dataclass(frozen=True)
class Artifact:
    """One output folder, complete or in progress."""

    uri: str

    @property
    def filesystem(self) -> AbstractFileSystem:
        return filesystem_and_path(self.uri)[0]

    def path(self, name: str = "") -> str:
        """The address of `name` on `filesystem` (absolute path, or bucket/key)."""
        root = filesystem_and_path(self.uri)[1]
        return f"{root}/{name}" if name else root

    def is_complete(self) -> bool:
        """Whether the manifest stands, which is written only after every other file."""
        return bool(self.filesystem.exists(self.path(MANIFEST)))

    def exists(self, name: str) -> bool:
        return bool(self.filesystem.exists(self.path(name)))

    def names(self, folder: str = "") -> list[str]:
        """Every file below `folder`, relative to the artifact, sorted, without temporary files."""
        return list(self.sizes(folder))

    def sizes(self, folder: str = "") -> dict[str, int]:
        """The bytes of each of `names(folder)`."""
        prefix = f"{folder}/" * bool(folder)
        infos = Folder(self.uri).files(folder)
        return {
            f"{prefix}{name}": info.num_bytes
            for name, info in infos.items()
            if not atomic.is_aside(name)
        }

    @contextmanager
    def write(self, name: str) -> Iterator[IO[bytes]]:
        """A binary file that appears under `name` when it is complete, or not at all.

        Raises:
            StorageFullError: the disk or a quota is full.
        """
        target = self.path(name)
        try:
            with atomic.write_file(self.filesystem, target) as file:
                yield file
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise StorageFullError(
                f"no space left to write {target}: free some, or store less, and run again; "
                "completed files are kept"
            ) from error

    @contextmanager
    def read(self, name: str) -> Iterator[IO[bytes]]:
        """A binary file.

        Raises:
            ArtifactError: there is no such file.
        """
        try:
            file = self.filesystem.open(self.path(name), "rb", block_size=READ_AHEAD_BYTES)
        except FileNotFoundError:
            raise self._unusable(name, "missing") from None
        with file:
            yield file

    def write_json(self, name: str, value: Any) -> None:
        with self.write(name) as file:
            file.write(
                json.dumps(value, indent=2, ensure_ascii=False).encode(errors="backslashreplace")
            )

    def read_json(self, name: str) -> Any:
        """What `write_json` was given.

        Raises:
            ArtifactError: there is no such file, or it is no JSON.
        """
        with self.read(name) as file:
            content = file.read()
        try:
            return json.loads(content)
        except ValueError:
            raise self._unusable(name, "damaged") from None

    def write_table(
        self, name: str, table: pa.Table, row_group_size: int | None = None
    ) -> dict[str, Any]:
        """Write Parquet; returns the file's `bytes` and `sha256`, computed while it is written."""
        # Frames hardly repeat: with a dictionary, writing takes longer and reading four times as
        # long, and the file is no smaller.
        words = [path for field in table.schema for path in _texts(field.name, field.type)]
        with self.write(name) as file:
            hashed = _Hashed(file)
            pq.write_table(
                table,
                hashed,
                compression=COMPRESSION,
                row_group_size=row_group_size,
                use_dictionary=words,
            )
        return hashed.checksum()

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        with self.read(name) as file:
            # `pq.read_table` would import pandas first, and take a second for it.
            parquet = pq.ParquetFile(file)
            missing = set(columns or ()).difference(parquet.schema_arrow.names)
            if missing:
                raise pa.ArrowInvalid(f"{name} has no column {', '.join(sorted(missing))}")
            return parquet.read(columns=columns)

    def write_folder(self, name: str, last: str = MODEL_CONFIG) -> AbstractContextManager[Path]:
        """A local scratch folder whose files appear under `name` when the block ends well.

        A folder that has the file `last` is complete (`atomic.write_folder`).
        """
        return atomic.write_folder(self.filesystem, self.path(name), last)

    @contextmanager
    def read_folder(self, name: str, last: str = MODEL_CONFIG) -> Iterator[Path]:
        """The files below `name` as a local folder: itself, or a download that is deleted afterwards.

        Raises:
            ArtifactError: there is no such folder, or it is incomplete: its file `last` is missing.
        """
        if not self.exists(f"{name}/{last}"):
            raise self._unusable(name, "missing")
        if atomic.is_local(self.filesystem):
            yield Path(self.path(name))
            return
        with tempfile.TemporaryDirectory() as scratch:
            for file in self.names(name):
                target = Path(scratch, file.removeprefix(f"{name}/"))
                target.parent.mkdir(parents=True, exist_ok=True)
                # `read` raises an error if the file is replaced meanwhile, so versions never mix.
                with self.read(file) as source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy, COPIED_BYTES)
            yield Path(scratch)

    def _unusable(self, name: str, how: str) -> ArtifactError:
        return ArtifactError(
            f"{self.uri}/{name} is {how}: delete {self.uri}/{MANIFEST} and run again"
        )

    def delete(self, name: str) -> None:
        atomic.delete(self.filesystem, self.path(name))

    def finish(self, description: dict[str, Any], temporary: Sequence[str] = ()) -> None:
        """Write the manifest: `description`, and every file but the log with bytes and SHA-256.

        A file that still has the size in its writer's record is not read again, which would take a
        day for terabytes. Folders in `temporary` served to resume the work: they are not in the
        manifest and deleted when it stands, so that no kill can cost both.
        """
        passing = tuple(f"{folder}/" for folder in (*temporary, LOG))
        sizes = {name: size for name, size in self.sizes().items() if not name.startswith(passing)}
        sizes.pop(MANIFEST, None)
        recorded = self.recorded()

        def describe(name: str) -> dict[str, Any]:
            known = recorded.get(name)
            return known if known and known["bytes"] == sizes[name] else self.checksum(name)

        with ThreadPoolExecutor(CHECKSUM_THREADS) as pool:
            files = dict(zip(sizes, pool.map(describe, sizes), strict=True))
        self._abort_uploads(0)
        self.write_json(MANIFEST, {**description, "files": files})
        for folder in temporary:
            self.delete(folder)

    def write_record(self, name: str, record: dict[str, Any]) -> None:
        """Record JSON values about the file `name`, with `bytes` and `sha256`."""
        self.write_json(f"{RECORDS}/{name}.json", record)

    def read_record(self, name: str) -> dict[str, Any] | None:
        """What `write_record` was given; None if that is missing or damaged."""
        try:
            record = self.read_json(f"{RECORDS}/{name}.json")
        except ArtifactError:
            return None
        return record if isinstance(record, dict) and {"bytes", "sha256"} <= record.keys() else None

    def delete_record(self, name: str) -> None:
        self.delete(f"{RECORDS}/{name}.json")

    def recorded(self) -> dict[str, dict[str, Any]]:
        """`bytes` and `sha256` of every file that has a record."""
        records = self.names(RECORDS)
        names = [name.removeprefix(f"{RECORDS}/").removesuffix(".json") for name in records]
        with ThreadPoolExecutor(CHECKSUM_THREADS) as pool:
            pairs = zip(names, pool.map(self.read_record, names), strict=True)
            return {
                name: {key: record[key] for key in ("bytes", "sha256")}
                for name, record in pairs
                if record is not None
            }

    def checksum(self, name: str, progress: Callable[[int], None] | None = None) -> dict[str, Any]:
        """`bytes` and `sha256` of a file; `progress` is called with the number of bytes read."""
        hasher = hashlib.sha256()
        size = 0
        with self.read(name) as file:
            while chunk := file.read(1 << 20):
                hasher.update(chunk)
                size += len(chunk)
                if progress is not None:
                    progress(len(chunk))
        return {"bytes": size, "sha256": hasher.hexdigest()}

    def sweep(self) -> None:
        """Delete what killed writers left: temporary files, parts of uploads.

        A file that changed in the last ten minutes, or an upload that began in the last hour, may
        belong to a running writer.
        """
        if atomic.is_local(self.filesystem):
            atomic.delete_abandoned(Path(self.path()))
        else:
            self._abort_uploads(ABANDONED_UPLOAD_SECONDS)

    def _abort_uploads(self, min_seconds: float) -> None:
        """On S3: delete parts of abandoned uploads, which no reader sees and somebody pays for."""
        abort_uploads = getattr(self.filesystem, "abort_uploads", None)
        if abort_uploads is not None:
            with suppress(OSError):  # not every store and every key can list them
                abort_uploads(self.path(), min_seconds)

    def metrics(self) -> dict[str, float]:
        """The stage's scores; empty if it has none."""
        return dict(self.read_json(METRICS)) if self.exists(METRICS) else {}


def artifact(storage: str, stage: str, digest: str) -> Artifact:
    """The output folder of `stage` in `storage`; a local path is made absolute."""
    return Artifact(f"{Folder.at(storage).uri}/{stage}/{digest}")


class _Hashed(io.RawIOBase):
    """Passes on to `file` what is written, and computes its size and checksum."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._hasher = hashlib.sha256()
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._hasher.update(data)
        self._size += len(data)
        return self._file.write(data)

    def checksum(self) -> dict[str, Any]:
        return {"bytes": self._size, "sha256": self._hasher.hexdigest()}


def _texts(name: str, kind: pa.DataType) -> Iterator[str]:
    """What Parquet calls the columns of strings in a column of some kind."""
    if pa.types.is_string(kind):
        yield name
    elif pa.types.is_list(kind):
        yield from _texts(f"{name}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _texts(f"{name}.{field.name}", field.type)
