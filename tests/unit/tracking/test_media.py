"""Files, figures, audio and tokenizers as artifacts of a run."""

import json
import re
import sys
import types
import wave
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from stored_runs import run_id, stored

from pipeline.tracking import outbox


def test_files_figures_and_audio_become_artifacts(stage, storage, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    stage.log_file(tmp_path / "notes.txt")
    stage.log_file(tmp_path / "notes.txt", "texts")
    (tmp_path / "notes.txt").unlink()
    stage.log_figure(Figure(), "plots/curves.png")
    stage.log_audio(np.array([0.0, 0.5, -3.0]), 16000, "audio/one.wav")
    stage.log_audio(np.zeros(2), 16000, "audio/../../up.wav")
    stage.log_figure(Figure(), f"purity-{'é' * 200}.png")
    root = storage / "mlartifacts" / run_id(stage) / "artifacts"
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*"))
    assert [re.sub(r"é+-[0-9a-f]{12}", "é", name) for name in names] == [
        "audio/_/_/up-886db32a1b42.wav",
        "audio/one.wav",
        "notes.txt",
        "plots/curves.png",
        "purity-é.png",
        "texts/notes.txt",
    ]
    assert (root / "plots/curves.png").read_bytes().startswith(b"\x89PNG")
    with wave.open(str(root / "audio/one.wav")) as file:
        assert file.getframerate() == 16000
        assert np.frombuffer(file.readframes(3), "<i2").tolist() == [0, 16384, -32767]


def test_a_logged_tokenizer_loads_without_pickles(
    stage, storage, tmp_path, monkeypatch, in_a_new_process
):
    """A worker leaves it to the leading process, which stores it once."""

    class UnitTokenizer:
        def __init__(self, settings):
            self.settings = settings

        @classmethod
        def from_pretrained(cls, folder):
            return cls(json.loads(Path(folder, "config.json").read_text()))

        def encode(self, waveforms):
            return [np.full(len(wave), self.settings["unit"], np.uint16) for wave in waveforms]

    stand_in = types.SimpleNamespace(UnitTokenizer=UnitTokenizer)
    monkeypatch.setitem(sys.modules, "pipeline.tokenizer.unit_tokenizer", stand_in)
    (tmp_path / "config.json").write_text('{"unit": 7}')
    stage.flush(60)
    for _ in range(2):
        worker = in_a_new_process(stage)
        worker.log_tokenizer(tmp_path)
        worker.flush(60)
        assert outbox.Outbox(stage.outbox_uri).files(stage.run.key)
        leading = in_a_new_process(stage, leads=True)
        leading.log_metrics({"score": 1.0})
        leading.flush(60)
        assert not outbox.Outbox(stage.outbox_uri).files(stage.run.key)

    import mlflow

    (output,) = stored(leading).outputs.model_outputs
    folder = storage / "mlartifacts" / "models" / output.model_id
    assert [path for path in folder.rglob("*") if path.suffix in {".pkl", ".pickle", ".bin"}] == []
    monkeypatch.setattr(sys, "path", [*sys.path])  # loading adds to it
    model = mlflow.pyfunc.load_model(str(folder / "artifacts"))
    assert model.predict([{"waveform": np.zeros(2)}, {"waveform": [0.5]}]) == [[7, 7], [7]]
    assert model.predict({"waveform": np.zeros(3, np.float32)}) == [[7, 7, 7]]
    with pytest.raises(mlflow.exceptions.MlflowException, match="missing inputs \\['waveform'\\]"):
        model.predict(np.zeros(3))
