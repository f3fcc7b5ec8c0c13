from support import tiny_config, tone_utterances, write_corpus

from pipeline.features.encoders.load import load_encoder
from pipeline.graph.stage import StageContext
from pipeline.log.stage_log import StageLog
from pipeline.progress import Progress
from pipeline.storage.artifacts import Artifact
from tasks.pretrain_encoder import STAGE


def test_stage_leaves_a_checkpoint_and_its_scores(tmp_path):
    settings = {
        "num_labels": 4,
        "dim": 16,
        "heads": 2,
        "feedforward_dim": 16,
        "conv_channels": 16,
        "epochs": 1,
        "batch_seconds": 2.0,
    }
    config = tiny_config(tmp_path, pretraining=settings)
    utterances = [*tone_utterances(tmp_path, "train", 8), *tone_utterances(tmp_path, "valid", 3)]
    corpus = write_corpus(Artifact(str(tmp_path / "corpus")), utterances)
    output = Artifact(str(tmp_path / "out"))
    sent = []
    inputs, progress = {"prepare_corpus": corpus}, Progress(sent.append)
    scores = STAGE.run(StageContext(config, output, inputs, StageLog(output), progress))
    assert scores.keys() == {
        "masked_accuracy",
        "masked_loss",
        "layer_0.pnmi",
        "layer_1.pnmi",
        "layer_2.pnmi",
    }
    assert 0 < scores["layer_0.pnmi"] <= 1
    with output.read_folder("encoder") as folder:
        assert load_encoder(folder).hidden_size == 16
    assert (sent[-1].done, sent[-1].total, sent[-1].unit) == (1, 1, "epochs")


def test_alignments_count_where_they_are_scored(tmp_path):
    [corpus] = STAGE.inputs(tiny_config(tmp_path), "")
    assert "valid/alignment" in corpus.parts
    assert "train/alignment" not in corpus.parts
