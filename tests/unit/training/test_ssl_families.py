"""An SSL model of any family is trained, saved in a tokenizer and read back; nothing asks which it is."""

import pytest
import soundfile
import torch
from support import (
    features_of_splits,
    save_tiny_whisper,
    tiny_config,
    tone_utterances,
    write_codebook,
    write_corpus,
)
from tiny_encoders import bert, data2vec, save

from pipeline.corpus.read_outputs import tokenizer_grid
from pipeline.features.encoders.load import load_encoder
from pipeline.features.extraction import ShardWriter
from pipeline.log.stage_log import StageLog
from pipeline.progress import SILENT
from pipeline.storage.artifacts import Artifact
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer
from pipeline.training.train_joint import train_joint
from pipeline.training.worker import Worker

TRAINING = {
    "phases": [{"epochs": 1}, {"epochs": 1, "ssl": "finetuned", "ssl_layer_decay": 0.5}],
    "batch_seconds": 3.0,
    "gradient_checkpointing": True,
    "ssl_dropout": 0.1,
}
FAMILIES = {
    "whisper in windows": (save_tiny_whisper, "window"),
    "whisper without padding": (save_tiny_whisper, "none"),
    "data2vec": (lambda folder: save(data2vec, folder), "window"),
    "w2v-BERT": (lambda folder: save(bert, folder), "window"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_fine_tuned_and_the_saved_tokenizer_is_what_was_trained(family, tmp_path):
    make, pad = FAMILIES[family]
    config = tiny_config(make(tmp_path / "ssl"), training=TRAINING, ssl={"pad": pad})
    (tmp_path / "audio").mkdir()
    utterances = [
        utterance
        for split, number in (("train", 6), ("valid", 2))
        for utterance in tone_utterances(tmp_path / "audio", split, number)
    ]
    features = Artifact(str(tmp_path / "f"))
    write = ShardWriter(config.ssl, config.features, features)
    for split in ("train", "valid"):
        write(f"shards/{split}-00000.parquet", [u for u in utterances if u.split == split])
    inputs = {
        "prepare_corpus": write_corpus(Artifact(str(tmp_path / "c")), utterances),
        **features_of_splits(features),
        "fit_codebook": write_codebook(Artifact(str(tmp_path / "k")), features, 2, 8),
    }
    output = Artifact(str(tmp_path / "out"))
    scores = train_joint(config, inputs, output, Worker(), log=StageLog(output), progress=SILENT)
    assert scores["valid.asr_loss"] < float("inf")

    tokenizer = UnitTokenizer.from_pretrained(tmp_path / "out" / "tokenizer")
    untrained, ssl = load_encoder(config.ssl.source, max_layer=2), tokenizer.mixer.ssl
    changed = {
        name
        for name, weight in untrained.state_dict().items()
        if not torch.equal(weight, ssl.state_dict()[name])
    }
    parts = {name.split(".")[-2] for name in changed}
    assert len(changed) > 20
    assert not parts & {"conv1", "conv2", "embed_positions", "conv_layers"}
    assert tokenizer_grid(output) == ssl.grid == untrained.grid
    for utterance in utterances[-2:]:
        samples, _ = soundfile.read(utterance.audio, dtype="float32")
        [units] = tokenizer.encode([samples])
        assert len(units) == ssl.grid.num_frames(len(samples))
    if "whisper" in family:
        assert ssl.pad == pad
