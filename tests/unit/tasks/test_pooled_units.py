"""Units of 40 ms from audio to the last score: every stage by its own code, in this process."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from support import run_shards_here, save_tiny_ssl, tiny_config, tone_utterances, write_codebook
from support import write_corpus as write_prepared

from pipeline.corpus.read_outputs import read_tokens
from pipeline.graph.stage import StageContext
from pipeline.log.stage_log import StageLog
from pipeline.storage.artifacts import METRICS, Artifact
from tasks import (
    evaluate_resynthesis,
    extract_features,
    phone_purity,
    tokenize_corpus,
    train_joint,
    train_vocoder,
)

SPLITS = {"train": 10, "valid": 3, "test": 4}
SECTIONS = {
    "features": {"pool": 2, "layers": [0, 1, 2]},
    "corpus": {"kind": "manifest", "manifest": "none.jsonl", "splits": {"test": ["test"]}},
    "training": {
        "phases": [{"epochs": 1}, {"epochs": 1, "ssl": "finetuned"}],
        "speeds": [1.0, 1.25],
    },
    "asr_evaluation": {"beam_size": 2},
    "resynthesis": {"utterances_per_split": 2, "audio_examples": 1},
    "vocoder": {
        "unit_dim": 8,
        "speaker_dim": 4,
        "istft": {"dim": 16, "blocks": 1},
        "adversaries": {"from_step": 1, "channels": 1},
        "segment_seconds": 0.2,
        "batch_size": 2,
        "steps": 2,
    },
}


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """The outputs and scores of all stages by their name, and the utterances."""
    root = tmp_path_factory.mktemp("pooled")
    config = tiny_config(save_tiny_ssl(root / "ssl"), **SECTIONS)
    (root / "audio").mkdir()
    made = [one for item in SPLITS.items() for one in tone_utterances(root / "audio", *item)]
    outputs = {"prepare_corpus": write_prepared(Artifact(str(root / "corpus")), made)}
    scores = {}

    def run(stage, split=""):
        name = f"{stage.name}/{split}" if split else stage.name
        output = outputs[name] = Artifact(str(root / name.replace("/", "-")))
        context = StageContext(config, output, dict(outputs), StageLog(output), split=split)
        scores[name] = stage.run(context)
        output.write_json(METRICS, scores[name])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.runtime.shard_pool.run_shards", run_shards_here)
        for split in extract_features.STAGE.splits(config):
            run(extract_features.STAGE, split)
        codebook = Artifact(str(root / "codebook"))
        features = outputs["extract_features/train"]
        outputs["fit_codebook"] = write_codebook(codebook, features, layer=2, num_units=8)
        run(train_joint.STAGE)
        for split in SPLITS:
            run(tokenize_corpus.STAGE, split)
        run(phone_purity.STAGE, "test")
        run(train_vocoder.STAGE)
        run(evaluate_resynthesis.STAGE, "test")
    return outputs, scores, made


def num_units(utterance):
    """Frames of 25 ms, 20 ms apart, in complete pairs."""
    return ((round(utterance.duration * 16000) - 400) // 320 + 1) // 2


def test_each_utterance_has_a_unit_for_two_frames_in_features_and_tokens(stages):
    outputs, scores, made = stages
    for split in SPLITS:
        utterances = {one.utt_id: one for one in made if one.split == split}
        units = read_tokens(outputs[f"tokenize_corpus/{split}"], split)
        assert {utt_id: len(row) for utt_id, row in units.items()} == {
            utt_id: num_units(one) for utt_id, one in utterances.items()
        }
        if split != "test":
            frames = scores[f"extract_features/{split}"]["frames"]
            assert frames == sum(map(len, units.values()))


def test_a_copy_at_another_speed_has_its_own_frames_and_no_units(stages):
    outputs, scores, made = stages
    name = "extract_features/train_sp1.25"
    faster = [replace(one, duration=one.duration / 1.25) for one in made if one.split == "train"]
    assert scores[name]["utterances"] == len(faster)
    assert scores[name]["frames"] == sum(map(num_units, faster))
    ids = {f"sp1.25-{one.utt_id}" for one in faster}
    rows = outputs[name].read_table("shards/train_sp1.25-00000.parquet", columns=["utt_id"])
    assert set(rows["utt_id"].to_pylist()) == ids
    assert {name for name in outputs if "sp1.25" in name} == {name}


def test_bit_rates_count_25_units_a_second(stages):
    _, scores, _ = stages
    assert scores["tokenize_corpus/test"]["test.bit_rate_log2k"] == pytest.approx(25 * 3)


def test_purity_compares_a_unit_with_the_label_in_the_middle_of_its_two_frames(stages):
    outputs, scores, made = stages
    units = read_tokens(outputs["tokenize_corpus/test"], "test")
    pairs = Counter()
    for one in (one for one in made if one.split == "test"):
        for index, unit in enumerate(units[one.utt_id].tolist()):
            # Two frames reach over 720 samples, 640 from one pair to the next.
            seconds = (640 * index + 360) / 16000
            pairs[one.text[int(seconds / 0.25)], unit] += 1
    best = Counter()
    for (_, unit), count in pairs.items():
        best[unit] = max(best[unit], count)
    expected = sum(best.values()) / sum(pairs.values())
    assert scores["phone_purity/test"]["test.phone_purity"] == pytest.approx(expected)


def test_speech_from_units_has_640_samples_for_each(stages):
    outputs, scores, made = stages
    output = outputs["evaluate_resynthesis/test"]
    name, *_ = output.names("audio")
    with output.read(name) as file:
        samples, rate = soundfile.read(file)
    [spoken] = [one for one in made if name == f"audio/{one.utt_id}.wav"]
    assert (len(samples), rate) == (640 * num_units(spoken) + 80, 16000)
    assert np.isfinite(scores["evaluate_resynthesis/test"]["test.mcd_db"])
    assert scores["train_joint"]["rejected_utterances"] == 0
