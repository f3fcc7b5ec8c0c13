"""`tokenize` among paths that cannot be read: the units of all others are written."""

import io
import os
import sys
from contextlib import nullcontext
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support import run_shards_here, save_tiny_tokenizer, tone_utterances
from typer.testing import CliRunner

from pipeline.__main__ import app, main
from pipeline.audio.decode import AudioStorageError
from pipeline.commands import waveforms
from pipeline.runtime import session, shard_pool

NOT_UTF_8 = os.fsdecode(b"caf\xe9.wav")
ODD_NAMES = [
    "a::b.wav",
    "[red]a[/red].wav",
    ":cd:.wav",
    "日本.wav",
    "a#?%41 ~.wav",
    "line\nend.wav",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return save_tiny_tokenizer(tmp_path_factory.mktemp("train_joint"))


@pytest.fixture
def audio(tmp_path) -> Path:
    """A folder with good files of odd names, links that lead to them, and everything else."""
    folder = tmp_path / "new"
    folder.mkdir()
    (good, *_) = tone_utterances(tmp_path, "good", 1)
    content = Path(good.audio).read_bytes()
    for name in [*ODD_NAMES, NOT_UTF_8]:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "linked.flac").write_bytes(content)
    (folder / "link").symlink_to(tmp_path / "store")
    (folder / "loop").symlink_to(folder)
    (folder / "itself.wav").symlink_to("itself.wav")
    (folder / "folder.wav").mkdir()
    os.mkfifo(folder / "pipe.wav")
    return folder


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_files_one_by_one(trained, audio, tmp_path):
    output = tmp_path / "tokens[1].parquet"
    names = [*ODD_NAMES, NOT_UTF_8]
    bad = ["itself.wav", "pipe.wav", f"{ODD_NAMES[0]}/b.wav", "n" * 300, os.fsdecode(b"gone\xff")]
    result = invoke(
        "tokenize", trained, *[audio / name for name in [*bad, *names]], "--output", output
    )
    assert result.exit_code == 1
    assert not isinstance(result.exception, UnicodeError), result.exception
    rows = pq.read_table(output).to_pylist()
    written = [*ODD_NAMES, r"caf\xe9.wav"]
    assert [row["utt_id"] for row in rows] == [name.removesuffix(".wav") for name in written]
    assert len({tuple(row["units"]) for row in rows}) == 1
    for name in written:
        assert f"{audio}/{name}: " in result.output
    assert r"gone\xff: no such audio file" in result.output
    assert f"{len(names)} of {len(names) + len(bad)} written to {output}" in result.output


def test_a_folder_of_everything(trained, audio, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_pool, "run_shards", run_shards_here)
    monkeypatch.setattr(session, "ray_session", lambda _cluster: nullcontext())
    output = tmp_path / "tokens"
    result = invoke("tokenize", trained, audio, "--output", output)
    assert result.exit_code == 0, (result.output, result.exception)
    rows = [
        row for path in (output / "shards").iterdir() for row in pq.read_table(path).to_pylist()
    ]
    assert len(rows) == len(ODD_NAMES) + 1
    assert len({tuple(row["units"]) for row in rows}) == 1
    rejects = {
        row["source"].removeprefix(f"{audio}/"): row["reason"]
        for row in pq.read_table(output / "rejects.parquet").to_pylist()
    }
    assert rejects == {
        r"caf\xe9.wav": "name is not UTF-8: rename the file or its folder",
        "itself.wav": "broken link: Too many levels of symbolic links",
        "pipe.wav": "not a regular file",
    }


@pytest.mark.parametrize(
    "error", [AudioStorageError("a store that is out of reach"), MemoryError(), KeyboardInterrupt()]
)
def test_units_that_are_made_are_kept_whatever_happens_to_the_next_file(
    trained, audio, tmp_path, monkeypatch, error
):
    read = waveforms.read_whole

    def failing(uri, grid):
        if uri.endswith("pipe.wav"):
            raise error
        return read(uri, grid)

    monkeypatch.setattr(waveforms, "read_whole", failing)
    output = tmp_path / "tokens.parquet"
    first, last = audio / ODD_NAMES[0], audio / ODD_NAMES[1]
    result = invoke("tokenize", trained, first, audio / "pipe.wav", last, "--output", output)
    assert result.exit_code != 0
    goes_on = isinstance(error, AudioStorageError)
    expected = [name.removesuffix(".wav") for name in ODD_NAMES[: 2 if goes_on else 1]]
    assert pq.read_table(output)["utt_id"].to_pylist() == expected


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_console_that_cannot_print_the_names(trained, audio, tmp_path, monkeypatch, encoding):
    output, printed = tmp_path / "tokens.parquet", io.BytesIO()
    names = [audio / "日本.wav", audio / NOT_UTF_8, audio / "gone\x85é.wav"]
    arguments = ["dkm", "tokenize", trained, *names, "--output", output]
    monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding, errors="strict"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    sys.stdout.flush()
    assert "日本.wav: ".encode(encoding, "backslashreplace") in printed.getvalue()
    assert rb"caf\xe9.wav: " in printed.getvalue()
    assert pq.read_table(output).num_rows == 2
