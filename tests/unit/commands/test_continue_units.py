"""continue and resynthesize with tiny random models: from units to a continuation that is heard."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from pipeline import config
from pipeline.__main__ import app
from pipeline.config import ConfigError
from pipeline.lm.causal_lm import CausalLm
from pipeline.lm.unit_lm import UnitLm
from pipeline.storage import table_schemas
from pipeline.storage.writable import UnwritableError
from pipeline.tokenizer.identity import TOKENIZER
from pipeline.units.subwords import Subwords
from pipeline.vocoder.generator import UnitVocoder

NUM_UNITS = 7
UNITS = {"a/1": [3, 3, 1, 1, 1, 6], "b": [0, 0, 5]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What train_unit_lm leaves."""
    folder = tmp_path_factory.mktemp("train_unit_lm")
    transformer = config.CausalTransformer(dim=16, layers=1, heads=2, feedforward_dim=32)
    subwords = Subwords.train(config.UnitLm(), [np.arange(NUM_UNITS)])
    torch.manual_seed(0)
    model = CausalLm.build(transformer, len(subwords) + 1, len(subwords))
    about = {"num_units": NUM_UNITS, "tokenizer": "feed"}
    rates = {"units_per_second": 50.0, "symbols_per_second": 10.0}
    (folder / "unit_lm").mkdir()
    UnitLm(model, subwords, **about, **rates).save_pretrained(folder / "unit_lm")
    return folder


def write_units(path, units=UNITS, **metadata):
    rows = [
        {"utt_id": name, "split": "", "units": row, "num_frames": len(row)}
        for name, row in units.items()
    ]
    table = pa.Table.from_pylist(rows, schema=table_schemas.TOKENS)
    pq.write_table(table.replace_schema_metadata(metadata or None), path)
    return path


@pytest.fixture
def tokens(tmp_path):
    return write_units(tmp_path / "tokens.parquet", **{TOKENIZER: "feed"})


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def continued(model, *arguments, output):
    result = invoke("continue", model, *arguments, "--output", output)
    assert result.exit_code == 0, (result.output, result.exception)
    table = pq.read_table(output)
    return dict(zip(table["utt_id"].to_pylist(), table["units"].to_pylist(), strict=True))


@pytest.mark.parametrize("inner", ["", "unit_lm"])
def test_each_utterance_goes_on_from_its_own_units(trained, tokens, tmp_path, inner):
    found = continued(trained / inner, tokens, "--seconds", 2, output=tmp_path / "more.parquet")
    assert found["a/1"][:3] == [3, 1, 6]
    assert found["b"][:2] == [0, 5]
    assert max(map(len, found.values())) > 3
    schema = pq.read_schema(tmp_path / "more.parquet")
    assert schema.metadata == {b"tokenizer": b"feed", b"deduplicated": b"true"}


def test_what_follows_depends_on_seed_and_utterance_alone(trained, tokens, tmp_path):
    first, again, other = (
        continued(trained, tokens, "--seed", seed, output=tmp_path / f"{name}.parquet")
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert first == again != other
    write_units(tmp_path / "b.parquet", {"b": UNITS["b"]}, **{TOKENIZER: "feed"})
    alone = continued(
        trained, tmp_path / "b.parquet", "--seed", 1, output=tmp_path / "alone.parquet"
    )
    assert alone == {"b": first["b"]}


def test_a_prompt_may_be_the_beginning_of_an_utterance(trained, tokens, tmp_path):
    """Fifty units a second: 0.04 s are two of them."""
    options = ("--prompt-seconds", 0.04, "--seconds", 0)
    found = continued(trained, tokens, *options, output=tmp_path / "short.parquet")
    assert found == {"a/1": [3], "b": [0]}


def test_a_continuation_is_spoken_as_long_as_the_vocoder_predicts(trained, tokens, tmp_path):
    torch.manual_seed(0)
    vocoder = UnitVocoder(
        config.Vocoder(unit_dim=8, speaker_dim=4, istft=config.Istft(dim=16)),
        NUM_UNITS,
        ["ann"],
        tokenizer="feed",
    )
    torch.nn.init.constant_(vocoder.durations.head.bias, float(np.log(4.0)))  # about three frames
    vocoder.save_pretrained(tmp_path / "vocoder")
    found = continued(trained, tokens, output=tmp_path / "more.parquet")
    output = tmp_path / "speech"
    result = invoke(
        "resynthesize", tmp_path / "vocoder", tmp_path / "more.parquet", "--output", output
    )
    assert result.exit_code == 0, result.output
    for name, units in {"1": found["a/1"], "b": found["b"]}.items():
        frames = vocoder.durations.expand(torch.tensor(units))
        assert len(frames) > len(units)
        samples, _ = soundfile.read(output / f"{name}.wav")
        assert len(samples) == vocoder.grid.num_samples(len(frames))


def test_mistakes_are_named(trained, tokens, tmp_path):
    outside = write_units(tmp_path / "outside.parquet", {"u": [2, 7]}, **{TOKENIZER: "feed"})
    empty = write_units(tmp_path / "empty.parquet", {"u": []}, **{TOKENIZER: "feed"})
    others = write_units(tmp_path / "others.parquet", **{TOKENIZER: "cafe"})
    runs = write_units(tmp_path / "runs.parquet", **{TOKENIZER: "feed", "deduplicated": "true"})
    for arguments, message in (
        ((trained, outside), "outside.parquet: u: units must lie between 0 and 6, got 2 to 7"),
        ((trained, empty), "empty.parquet: u: an utterance without units cannot be continued"),
        ((trained, tokens, "--prompt-seconds", 0), "without units cannot be continued"),
        ((trained, others), "tokenizer cafe, but .* name the train_unit_lm output"),
        ((trained, runs, "--prompt-seconds", 1), "de-duplicated units, whose seconds nobody"),
        ((trained, tmp_path / "gone.parquet"), "gone.parquet: no such file"),
        ((tmp_path, tokens), "has no model"),
    ):
        output = tmp_path / "never.parquet"
        error = invoke("continue", *arguments, "--output", output).exception
        assert isinstance(error, ConfigError), (message, error)
        with pytest.raises(ConfigError, match=message):
            raise error
        assert not output.exists()


def test_units_of_an_unknown_tokenizer_are_continued_with_a_warning(trained, tmp_path):
    unknown = write_units(tmp_path / "unknown.parquet")
    result = invoke("continue", trained, unknown, "--output", tmp_path / "more.parquet")
    assert result.exit_code == 0
    assert f"{unknown} does not name it" in result.stdout


def test_an_output_may_be_replaced_and_a_folder_is_refused_before_any_work(
    tokens, trained, tmp_path
):
    first = continued(trained, tokens, output=tmp_path / "more.parquet")
    assert continued(trained, tokens, output=tmp_path / "more.parquet") == first
    refused = invoke("continue", tmp_path / "gone", tokens, "--output", tmp_path).exception
    with pytest.raises(UnwritableError, match="it is a folder; name a file"):
        raise refused
