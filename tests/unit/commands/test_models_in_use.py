"""tokenize, transcribe and resynthesize with tiny random models, on files nobody prepared."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.asr.model import AsrModel
from pipeline.asr.text_pieces import TextPieces
from pipeline.audio.decode import read_audio, write_audio
from pipeline.config import Asr, ConfigError, Istft, Vocoder
from pipeline.config import TextPieces as TextPiecesSettings
from pipeline.features.encoders.convolutional import ConvolutionalEncoder
from pipeline.quantizer.layer_mix import LayerMix
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact
from pipeline.storage.writable import UnwritableError
from pipeline.tokenizer.feature_mixer import FeatureMixer
from pipeline.tokenizer.identity import TOKENIZER, tokenizer_digest
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer
from pipeline.vocoder.generator import UnitVocoder

NUM_UNITS, WIDTH = 7, 16


@pytest.fixture(scope="module")
def mixer() -> FeatureMixer:
    torch.manual_seed(0)
    backbone = WavLMModel(
        WavLMConfig(
            hidden_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            conv_dim=(8,) * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2,
        )
    )
    ssl = ConvolutionalEncoder(backbone.eval(), Wav2Vec2FeatureExtractor(do_normalize=False))
    mix = LayerMix(2, initial=0, initial_mass=0.5, learned=False)
    return FeatureMixer(ssl, (0, 2), mix).eval()


@pytest.fixture(scope="module")
def tokenizer(mixer) -> UnitTokenizer:
    noise = np.random.default_rng(0).normal(size=48000).astype(np.float32)
    (frames_TD,) = mixer.encode([noise])
    return UnitTokenizer(
        mixer, torch.from_numpy(frames_TD[:: len(frames_TD) // NUM_UNITS][:NUM_UNITS])
    )


def save_asr(folder, *, num_units=None, input_dim=None) -> None:
    torch.manual_seed(0)
    settings = Asr(embedding_dim=16, dim=16, heads=2, feedforward_dim=24, conv_kernel=5)
    units = TextPieces.train(TextPiecesSettings(), ["ab cd"])
    AsrModel(settings, num_units, input_dim, units).save_pretrained(folder / "asr")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tokenizer):
    """What train_joint leaves for a variant with units."""
    folder = tmp_path_factory.mktemp("train_joint")
    tokenizer.save_pretrained(folder / "tokenizer")
    save_asr(folder, num_units=NUM_UNITS)
    return folder


@pytest.fixture(scope="module")
def continuous(tmp_path_factory, mixer):
    folder = tmp_path_factory.mktemp("continuous")
    mixer.save_pretrained(folder / "features")
    save_asr(folder, input_dim=WIDTH)
    return folder


def save_vocoder(folder, of_tokenizer=None, **changes):
    settings = Vocoder(unit_dim=8, speaker_dim=4, istft=Istft(dim=16), **changes)
    vocoder = UnitVocoder(settings, NUM_UNITS, ["ann", "bob"], tokenizer=of_tokenizer)
    vocoder.save_pretrained(folder / "vocoder")
    return folder


@pytest.fixture(scope="module")
def vocoder(tmp_path_factory, trained):
    digest = tokenizer_digest(trained / "tokenizer")
    return save_vocoder(tmp_path_factory.mktemp("train_vocoder"), digest)


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "me at home.wav"
    samples = 0.3 * np.random.default_rng(1).normal(size=(44100, 2))
    soundfile.write(path, samples, 44100)
    return path


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("inner", ["", "tokenizer"])
def test_tokenize_writes_the_tokenizers_units(trained, tokenizer, recording, tmp_path, inner):
    output = tmp_path / "tokens.parquet"
    result = invoke("tokenize", trained / inner, recording, "--output", output)

    assert result.exit_code == 0, result.output
    table = pq.read_table(output)
    assert table.schema.equals(table_schemas.TOKENS)
    (row,) = table.to_pylist()
    (expected,) = tokenizer.encode([read_audio(str(recording), 16000)])
    assert row["units"] == expected.tolist()
    assert row["num_frames"] == len(expected) == 49
    assert row["utt_id"] == "me at home"


def test_one_bad_file_costs_the_exit_code_and_no_other_file(trained, recording, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"")
    output = tmp_path / "tokens.parquet"
    result = invoke("tokenize", trained, bad, recording, "--output", output)
    assert result.exit_code == 1
    assert "empty" in result.output
    assert pq.read_table(output).num_rows == 1


def test_units_made_until_a_stop_are_written(trained, recording, tmp_path, monkeypatch):
    files = [tmp_path / f"{name}.wav" for name in "abc"]
    for path in files:
        path.write_bytes(recording.read_bytes())
    encode, stops = UnitTokenizer.encode, []

    def stopped(self, waveforms, *more):
        stops.append(True)
        if len(stops) == 3:
            raise KeyboardInterrupt
        return encode(self, waveforms, *more)

    def ids(path):
        return pq.read_table(path)["utt_id"].to_pylist()

    monkeypatch.setattr(UnitTokenizer, "encode", stopped)
    output = tmp_path / "units" / "all.parquet"
    result = invoke("tokenize", trained, *files, "--output", output)
    assert result.exit_code != 0
    assert f"2 of 3 written to {output}" in result.output
    assert ids(output) == ["a", "b"]
    # An older file is not replaced by less.
    invoke("tokenize", trained, *files, "--output", output)
    assert ids(output) == ["a", "b", "c"]
    stops.clear()
    stopped_at = output.with_name("all.stopped.parquet")
    result = invoke("tokenize", trained, *files[1:], *files[:1], "--output", output)
    assert f"2 of 3 written to {stopped_at}" in result.output
    assert ids(output) == ["a", "b", "c"]
    assert ids(stopped_at) == ["b", "c"]


def test_a_file_whose_units_cannot_be_computed_costs_no_other(
    trained, recording, tmp_path, monkeypatch
):
    encode = UnitTokenizer.encode

    def refuses(self, waveforms, *more):
        if len(waveforms[0]) == 8000:
            raise ValueError("these cannot be encoded")
        return encode(self, waveforms, *more)

    monkeypatch.setattr(UnitTokenizer, "encode", refuses)
    bad = tmp_path / "bad.wav"
    soundfile.write(bad, np.zeros(8000), 16000)
    output = tmp_path / "tokens.parquet"
    result = invoke("tokenize", trained, bad, recording, "--output", output)
    assert result.exit_code == 1
    assert f"{bad}: these cannot be encoded" in result.output
    assert pq.read_table(output)["utt_id"].to_pylist() == ["me at home"]


@pytest.mark.parametrize("kind", ["trained", "continuous"])
def test_transcribe_prints_a_text_for_each_file(kind, request, recording, tmp_path):
    other = tmp_path / "other.flac"
    write_audio(other, np.random.default_rng(2).normal(size=8000) / 9, 8000)
    result = invoke("transcribe", request.getfixturevalue(kind), recording, other)
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()
    assert first.startswith(f"{recording}: ")
    assert second.startswith(f"{other}: ")
    assert set(second.removeprefix(f"{other}: ")) <= set("abcd ")


def test_resynthesize_speaks_what_tokenize_wrote(trained, vocoder, recording, tmp_path):
    tokens = tmp_path / "tokens.parquet"
    invoke("tokenize", trained, recording, "--output", tokens)
    spoken = tmp_path / "spoken"
    result = invoke("resynthesize", vocoder, tokens, tokens, "--speaker", "bob", "--output", spoken)
    assert result.exit_code == 0, result.output
    assert "Not checked" not in result.output
    assert sorted(path.name for path in spoken.iterdir()) == [
        "me at home-2.wav",
        "me at home.wav",
    ]
    info = soundfile.info(spoken / "me at home.wav")
    assert (info.samplerate, info.frames) == (16000, 49 * 320 + 80)
    result = invoke("resynthesize", vocoder, tokens, "--output", "memory://spoken/here")
    assert result.exit_code == 0, result.output
    assert "memory://spoken/here/me at home.wav: " in result.output
    assert Artifact("memory://spoken/here").names() == ["me at home.wav"]


def test_resynthesize_speaks_with_the_voice_of_a_file(recording, tmp_path):
    write_units(tmp_path / "tokens.parquet", [0, 1, 2])
    trained = save_vocoder(tmp_path / "trained", speaker="encoder")
    for name, options in (("whoever", ()), ("voice", ("--voice", recording))):
        arguments = (trained, tmp_path / "tokens.parquet", "--output", tmp_path / name, *options)
        result = invoke("resynthesize", *arguments)
        assert result.exit_code == 0, result.output
    whoever, voice = (
        soundfile.read(tmp_path / name / "tokens.wav")[0] for name in ("whoever", "voice")
    )
    assert len(voice) == len(whoever)
    assert not np.allclose(voice, whoever)
    scrap = tmp_path / "scrap.wav"
    soundfile.write(scrap, 0.1 * np.ones(4000), 16000)
    for options, message in (
        (("--voice", recording, "--speaker", "bob"), "both say who speaks: give one"),
        (("--voice", scrap), "scrap.wav has less than 0.5 seconds of speech"),
    ):
        error = invoke("resynthesize", trained, tmp_path / "tokens.parquet", *options).exception
        with pytest.raises(ConfigError, match=message):
            raise error


def test_resynthesize_names_a_users_mistakes(vocoder, tmp_path):
    tokens = tmp_path / "tokens.parquet"
    write_units(tokens, [NUM_UNITS])
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"a": [1]}), other)
    (tmp_path / "text.parquet").write_text("units")
    (tmp_path / "folder").mkdir()
    halves = tmp_path / "halves.parquet"
    pq.write_table(pa.table({"utt_id": ["a"], "units": [[1.5]]}), halves)
    unknown = tmp_path / "unknown.parquet"
    pq.write_table(pa.table({"utt_id": ["a"], "units": [[1, None]]}), unknown)
    for arguments, message in (
        ((tokens, "--speaker", "eve"), "does not know the speaker 'eve'.* ann, bob"),
        ((tokens, "--voice", "eve.wav"), "--voice: this vocoder has a table of its training speak"),
        ((tokens,), "codebook of 7"),
        ((other,), "has no tokens.* lacks units, utt_id"),
        ((tmp_path / "text.parquet",), "has no tokens"),
        ((tmp_path / "folder",), "has no tokens: it holds no Parquet file"),
        ((halves,), "has no tokens.* 1.5"),
        ((unknown,), "has no tokens"),
        ((tmp_path / "gone.parquet",), "no such file"),
    ):
        error = invoke("resynthesize", vocoder, *arguments, "--output", tmp_path).exception
        assert isinstance(error, ConfigError), message
        with pytest.raises(ConfigError, match=message):
            raise error


def write_units(path, units, tokenizer=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {"utt_id": f"../../{path.stem}", "split": "", "units": units, "num_frames": len(units)}
    table = pa.Table.from_pylist([row], schema=table_schemas.TOKENS)
    metadata = None if tokenizer is None else {TOKENIZER: tokenizer}
    pq.write_table(table.replace_schema_metadata(metadata), path)


def test_ids_that_no_file_can_have_become_names_that_one_can(vocoder, tmp_path):
    tokens, spoken = tmp_path / "tokens.parquet", tmp_path / "spoken"
    ids = ["é" * 125, "é" * 125 + ".wav", "a\0b", "", ".."]
    pq.write_table(pa.table({"utt_id": ids, "units": [[1]] * len(ids)}), tokens)
    result = invoke("resynthesize", vocoder, tokens, "--speaker", "bob", "--output", spoken)
    assert result.exit_code == 0, (result.output, result.exception)
    assert {path.name for path in spoken.iterdir()} == {
        f"{'é' * 100}.wav", f"{'é' * 100}-2.wav", "ab.wav", "utterance.wav", "...wav"
    }  # fmt: skip


def test_units_of_another_tokenizer_are_not_spoken(trained, vocoder, recording, tmp_path):
    tokens, spoken = tmp_path / "tokens.parquet", tmp_path / "spoken"
    invoke("tokenize", trained, recording, "--output", tokens)
    own = tokenizer_digest(trained / "tokenizer")
    assert pq.read_schema(tokens).metadata == {b"tokenizer": own.encode()}
    write_units(tmp_path / "others.parquet", [1, 2], "feed" * 16)
    result = invoke(
        "resynthesize", vocoder, tokens, tmp_path / "others.parquet", "--output", spoken
    )
    assert isinstance(result.exception, ConfigError)
    assert "others.parquet holds units of the tokenizer feedfeed" in str(result.exception)
    assert own in str(result.exception)
    assert not spoken.exists()  # the first file was good, and nothing was spoken


@pytest.mark.parametrize("silent", ["units", "vocoder"])
def test_units_or_a_vocoder_of_an_unknown_tokenizer_are_spoken_with_a_warning(
    vocoder, tmp_path, silent
):
    """As other programs write them, and earlier versions of this one."""
    tokens = tmp_path / "tokens.parquet"
    write_units(tokens, [1, 2], None if silent == "units" else "feed" * 16)
    vocoder = vocoder if silent == "units" else save_vocoder(tmp_path)
    result = invoke("resynthesize", vocoder, tokens, tokens, "--output", tmp_path / "spoken")
    assert result.exit_code == 0, result.output
    named = f"{tokens} (and 1 more)" if silent == "units" else str(vocoder)
    assert f"are of one tokenizer: {named} does not name it" in result.stdout
    assert (tmp_path / "spoken" / "tokens.wav").exists()


@pytest.mark.parametrize("inner", ["tokens", "shards", ""])
def test_resynthesize_speaks_the_units_of_an_output_folder(vocoder, trained, tmp_path, inner):
    own = tokenizer_digest(trained / "tokenizer")
    for name in ("a", "b"):
        write_units(tmp_path / "output" / inner / f"{name}.parquet", [1, 2], own)
    if inner:
        pq.write_table(pa.table({"utt_id": ["x"]}), tmp_path / "output" / "rejects.parquet")
    result = invoke("resynthesize", vocoder, tmp_path / "output", "--output", tmp_path / "spoken")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "spoken").iterdir()) == ["a.wav", "b.wav"]


def test_a_note_beside_a_tokenizer_makes_no_other_tokenizer_and_other_weights_do(trained, tmp_path):
    copy = shutil.copytree(trained / "tokenizer", tmp_path / "tokenizer")
    (copy / "README.md").write_text("mine")
    assert tokenizer_digest(copy) == tokenizer_digest(trained / "tokenizer")
    for name in ("config.json", "model.safetensors", "ssl/model.safetensors"):
        before, content = tokenizer_digest(copy), (copy / name).read_bytes()
        (copy / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert tokenizer_digest(copy) != before, name


def test_an_output_that_cannot_be_written_is_found_before_any_work(recording, tmp_path):
    (tmp_path / "folder.parquet").mkdir()
    for command, output, message in (
        ("tokenize", recording / "x.parquet", "is a file, not a folder"),
        ("tokenize", recording, "is a file, not a folder"),
        ("tokenize", tmp_path / "folder.parquet", "it is a folder; name a file"),
        ("tokenize", "", "is empty"),
        ("resynthesize", recording, "is a file, not a folder"),
        ("resynthesize", "", "is empty"),
    ):
        error = invoke(command, "no-model", recording, "--output", output).exception
        assert isinstance(error, UnwritableError), (command, output)
        assert message in str(error)


def test_a_model_of_another_kind_is_rejected(vocoder, recording):
    error = invoke("tokenize", vocoder / "vocoder", recording).exception
    assert isinstance(error, ConfigError)
    assert "'unit_tokenizer' is needed" in str(error)
    assert Artifact(str(vocoder)).exists("vocoder")
