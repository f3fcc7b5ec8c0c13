import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.audio.decode import write_audio
from pipeline.audio.utterance import CorpusError, from_table
from pipeline.config import Config, Ssl
from pipeline.corpus.adapters.manifest import ManifestCorpus
from pipeline.graph.graph import PARTS
from pipeline.graph.sources import Fingerprints
from pipeline.graph.stage import StageContext
from pipeline.progress import Progress
from pipeline.storage.artifacts import Artifact
from tasks.prepare_corpus import STAGE


@pytest.fixture
def context(tmp_path):
    """Two good utterances in each split, and one without text."""
    write_audio(tmp_path / "a.flac", np.random.default_rng(0).normal(0, 0.1, 18000), 16000)
    rows = [
        {"utt_id": f"{split}-{number}", "split": split, "text": "go on", "duration": 1.125}
        for split in ("train", "valid", "test")
        for number in range(2)
    ]
    rows.append({"utt_id": "mute", "split": "train", "text": ""})
    lines = [json.dumps({"speaker": "s", "audio": "a.flac", **row}) for row in rows]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    corpus = ManifestCorpus(manifest=str(tmp_path / "m.jsonl"), max_reject_share=0.5)
    config = Config(variant="v", corpus=corpus, ssl=Ssl(model="m", revision="1"))
    return StageContext(config, Artifact(str(tmp_path / "output")), {}, None)


def test_writes_tables_and_returns_scores(context):
    sent = []
    scores = STAGE.run(dataclasses.replace(context, progress=Progress(sent.append)))
    assert scores == {
        "warnings": 0.0,
        **dict.fromkeys(("clipped", "over_full_scale", "cancelled_mix"), 0.0),
        **dict.fromkeys(("silent_channel", "silent_end", "mostly_silent"), 0.0),
        "rejects": 1.0,
        "rejected_alignments": 0.0,
        "left_out": 0.0,
        "train.utterances": 2.0,
        "train.hours": pytest.approx(2.25 / 3600),
        "valid.utterances": 2.0,
        "valid.hours": pytest.approx(2.25 / 3600),
        "test.utterances": 2.0,
        "test.hours": pytest.approx(2.25 / 3600),
    }
    utterances = from_table(context.output.read_table("corpus.parquet"))
    assert [row.utt_id for row in utterances] == [
        f"{split}-{number}" for split in ("test", "train", "valid") for number in range(2)
    ]
    (reject,) = context.output.read_table("rejects.parquet").to_pylist()
    assert (reject["utt_id"], reject["reason"]) == ("mute", "empty text")
    assert (sent[-3].done, sent[-3].total, sent[-3].unit) == (7, 7, "utterances")
    assert sent[-2] == "rejected 1 utterances, with reasons in rejects.parquet"
    assert sent[-1].startswith("1 x empty text, such as mute (")


def test_warns_of_what_it_keeps(context):
    noise = np.random.default_rng(0).normal(0, 0.1, 18000).astype(np.float32)
    folder = Path(context.config.corpus.manifest).parent
    soundfile.write(folder / "a.flac", np.stack([noise, -noise], axis=1), 16000)
    sent = []
    scores = STAGE.run(dataclasses.replace(context, progress=Progress(sent.append)))
    assert (scores["warnings"], scores["cancelled_mix"], scores["rejects"]) == (6.0, 6.0, 1.0)
    assert sent[-2] == "warns of 6 utterances that it keeps, with reasons in rejects.parquet"
    assert sent[-1].startswith("6 x cancelled mix, such as test-0 (")
    assert sent[-1].endswith("; also test-1, train-0, train-1, valid-0, valid-1")
    rejects = context.output.read_table("rejects.parquet").to_pylist()
    assert sorted(row["what"] for row in rejects) == ["utterance", *["warning"] * 6]


def test_tables_are_written_even_if_too_much_is_rejected(context):
    strict = context.config.corpus.model_copy(update={"max_reject_share": 0.1})
    config = context.config.model_copy(update={"corpus": strict})
    with pytest.raises(CorpusError, match="1 of 7 utterances were rejected"):
        STAGE.run(StageContext(config, context.output, {}, None))
    assert context.output.read_table("rejects.parquet").num_rows == 1
    assert context.output.read_table("corpus.parquet").num_rows == 6
    assert not context.output.is_complete()


def test_the_fingerprint_changes_with_the_manifest(context):
    def fingerprint():
        return Fingerprints().of(STAGE.sources(context.config)["files"])

    before = fingerprint()
    assert fingerprint() == before
    with open(context.config.corpus.manifest, "a") as file:  # noqa: PTH123 - a str in the config
        file.write("\n")
    assert fingerprint() != before


def test_parts_tell_what_changed_and_not_where_it_lies(context, tmp_path):
    STAGE.run(context)
    before = context.output.read_json(PARTS)
    assert set(before) == {
        f"{split}/{kind}"
        for split in ("train", "valid", "test")
        for kind in ("audio", "text", "speaker", "alignment")
    }

    def parts(old="", new="", **changes):
        moved = tmp_path / "moved"
        shutil.copytree(tmp_path, moved, ignore=lambda *_: ["output", "moved"])
        if old == "noise":
            samples = np.random.default_rng(1).normal(0, 0.1, 18000)
            write_audio(moved / "a.flac", samples, 16000)
        else:
            text = (moved / "m.jsonl").read_text()
            assert old in text
            (moved / "m.jsonl").write_text(text.replace(old, new))
        values = {"manifest": str(moved / "m.jsonl"), **changes}
        config = context.config.model_copy(
            update={"corpus": context.config.corpus.model_copy(update=values)}
        )
        output = Artifact(str(tmp_path / "moved" / "output"))
        STAGE.run(dataclasses.replace(context, config=config, output=output))
        after = output.read_json(PARTS)
        shutil.rmtree(moved)
        return {part for part in before if before[part] != after[part]}

    kinds = ("train", "valid", "test")
    assert parts() == set()
    assert parts(max_seconds=30.0, max_reject_share=0.9, punctuation="!") == set()
    assert parts(
        '"speaker": "s", "audio": "a.flac", "utt_id": "test-0"',
        '"speaker": "t", "audio": "a.flac", "utt_id": "test-0"',
    ) == {"test/speaker"}
    assert parts(
        '"valid-1", "split": "valid", "text": "go on"',
        '"valid-1", "split": "valid", "text": "go in"',
    ) == {"valid/text"}
    aligned = '"train-0", "alignment": [{"start": 0, "end": 1.1, "label": "a"}]'
    assert parts('"train-0"', aligned) == {"train/alignment"}
    assert parts("noise") == {f"{kind}/audio" for kind in kinds}


def test_the_estimate_comes_from_the_manifest_and_from_headers(context, tmp_path):
    config = context.config.model_copy(update={"storage": str(tmp_path)})
    estimate = STAGE.estimate(config, "", {"prepare_corpus": context.output})
    assert estimate.audio_seconds == pytest.approx(7 * 1.125)
    assert estimate.num_frames == 7 * 56
    assert not estimate.sampled
    assert estimate.bytes_written == 0


def test_planning_imports_nothing_heavy():
    code = (
        "import sys, tasks.prepare_corpus, pipeline.corpus.check\n"
        "from pipeline.config.corpus import KINDS, load_adapter, kinds_in\n"
        "[load_adapter(kind) for kind in kinds_in(KINDS)]\n"
        "heavy = {'torch', 'torchaudio', 'ray', 'mlflow', 'transformers'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
