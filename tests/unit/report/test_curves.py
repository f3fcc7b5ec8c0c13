"""Learning curves and layer weights of several variants in one picture each."""

import pyarrow as pa
from reported_variant import reported

from pipeline.graph.graph import Graph
from pipeline.log.stage_log import StageLog
from pipeline.report.curves import curves
from pipeline.report.variant import variants


def read(*members):
    return variants(Graph(members), [member.config for member in members])


def training_of(member):
    """The output of its training, without the history that it has."""
    output = member.nodes["train_joint"].artifact
    output.delete("log")
    return output


def test_a_picture_for_each_measure_says_how_each_variant_ends(tmp_path):
    one, other = (reported(tmp_path, name) for name in ("kmeans", "dkm_full"))
    StageLog(training_of(one)).metrics({"valid.wer": 0.5, "layer_weight.02": 1.0}, 10)
    found = curves(read(one, other))
    wer, asr_loss = found.trainings["train_joint"]
    assert "word error rate of greedy CTC, validation, at the end kmeans 0.5, dkm_full 0.8." in wer
    assert "at the end dkm_full 2." in asr_loss
    assert "kmeans layer 2 1.00; dkm_full layer 0 0.25, layer 2 0.75." in found.layer_weights


def test_an_output_from_before_there_were_logs_shows_its_validation(tmp_path):
    member = reported(tmp_path, "kmeans")
    history = pa.table({"step": [1.0, 2.0], "valid.loss": [0.5, 0.25], "train.loss": [1.0, 0.5]})
    training_of(member).write_table("history.parquet", history)
    found = curves(read(member))
    [picture] = found.trainings["train_joint"]
    assert "loss, validation, at the end kmeans 0.25." in picture
    assert found.layer_weights is None


def test_a_training_that_is_never_validated_shows_every_measure(tmp_path):
    """As that of a vocoder is."""
    member = reported(tmp_path, "kmeans")
    logged = StageLog(training_of(member))
    for step, loss in ((10, 2.0), (20, 1.5)):
        logged.metrics({"mel_loss": loss, "pitch_loss": loss / 4}, step)
    logged.flush()
    mel, pitch = curves(read(member)).trainings["train_joint"]
    assert "mel loss, at the end kmeans 1.5." in mel
    assert "loss of F0 and voicing, at the end kmeans 0.375." in pitch


def test_a_long_curve_is_thinned(tmp_path):
    member = reported(tmp_path, "kmeans")
    logged = StageLog(training_of(member))
    for step in range(20000):
        logged.metrics({"train.asr_loss": step % 7}, step)
    logged.flush()
    [picture] = curves(read(member)).trainings["train_joint"]
    assert len(picture) < 30_000


def test_a_damaged_history_is_a_note(tmp_path):
    member = reported(tmp_path, "kmeans")
    with training_of(member).write("log/0.jsonl") as file:
        file.write(b"x")
    known = read(member)
    assert curves(known).trainings == {}
    assert known[0].notes[0].startswith("kmeans: the history of train_joint[kmeans] cannot be read")
