"""The `tokenize` command over a folder, and what it writes there."""

import pyarrow.parquet as pq
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.config import ConfigError
from pipeline.storage import table_schemas


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def tokenize(trained, *audio, output):
    result = invoke("tokenize", trained, *audio, "--output", output)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def refusal(trained, *arguments, kind=ConfigError):
    result = invoke("tokenize", trained, *arguments)
    assert isinstance(result.exception, kind), result.output
    return str(result.exception)


def rows(output):
    paths = sorted((output / "shards").iterdir())
    return {row["utt_id"]: row for path in paths for row in pq.read_table(path).to_pylist()}


def contents(output):
    return {path.name: path.read_bytes() for path in (output / "shards").iterdir()}


def rejects(output):
    table = pq.read_table(output / "rejects.parquet")
    assert table.schema.equals(table_schemas.REJECTS)
    return {row["source"]: row["reason"] for row in table.to_pylist()}
