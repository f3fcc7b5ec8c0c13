import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from support import save_tiny_tokenizer, tone_utterances

from pipeline.audio.decode import read_audio
from pipeline.config import Istft, Vocoder
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer
from pipeline.vocoder.generator import UnitVocoder

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "tokenize_and_listen.py"


@pytest.fixture
def run_folder(tmp_path):
    """What a run leaves: a tokenizer of 8 units, and the vocoder of the variant `tiny` for it."""
    save_tiny_tokenizer(tmp_path / "train_joint" / "a1")
    torch.manual_seed(0)
    settings = Vocoder(istft=Istft(dim=16, blocks=1), unit_dim=8)
    output = tmp_path / "train_vocoder" / "b2"
    UnitVocoder(settings, 8, ["ann"]).save_pretrained(output / "vocoder")
    manifest = {"variants": ["tiny"], "inputs": {"train_joint": "a1"}}
    (output / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def run_example(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *map(str, arguments)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")


def test_audio_becomes_units_and_speech_of_the_same_length(run_folder, monkeypatch, capsys):
    (utterance,) = tone_utterances(run_folder, "test", 1)
    wav = run_folder / "out.wav"
    options = ("--run", run_folder, "--variant", "tiny", "--output", wav)
    run_example(monkeypatch, utterance.audio, *options)
    tokenizer = UnitTokenizer.from_pretrained(run_folder / "train_joint" / "a1" / "tokenizer")
    [units] = tokenizer.encode([read_audio(utterance.audio, 16000, 0.0, utterance.duration)])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == " ".join(map(str, units))
    assert f"{len(units)} units" in printed[1]
    speech = read_audio(str(wav), 16000, 0.0, (320 * len(units) + 80) / 16000)
    assert abs(speech).max() > 0


def test_a_run_without_the_variant_says_what_to_do(run_folder, monkeypatch):
    with pytest.raises(SystemExit, match="no vocoder of dkm_full: give `make demo`"):
        run_example(monkeypatch, "gone.wav", "--run", run_folder)
