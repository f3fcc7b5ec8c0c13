"""A worker that decodes has everything on its own device: a GPU's ASR model reads no CPU's tensors."""

import torch
from support import SMALL_ASR

from pipeline import config
from pipeline.asr.model import AsrModel
from pipeline.asr.shard_transcriber import ShardTranscriber
from pipeline.asr.text_pieces import TextPieces
from pipeline.storage.artifacts import Artifact


def test_model_reader_and_language_models_are_on_one_device(tmp_path, monkeypatch):
    pieces = TextPieces.train(config.TextPieces(), ["abc "])
    trained = Artifact(str(tmp_path))
    with trained.write_folder("asr") as folder:
        AsrModel(config.Asr(**SMALL_ASR), 8, None, pieces).save_pretrained(folder)
    devices = []
    monkeypatch.setattr(AsrModel, "to", lambda model, device: devices.append(device) or model)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    ShardTranscriber(
        trained,
        open_reader=lambda device: devices.append(device) or list,
        open_scorers=lambda _pieces, device: devices.append(device) or (),
        settings=config.AsrEvaluation(),
    )
    assert devices == [torch.device("cuda")] * 3
