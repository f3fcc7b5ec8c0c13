"""Leave one speaker out: nothing of him reaches training, validation, codebook or text pieces."""

import json
from pathlib import Path

import pytest

pytest.importorskip("ray")

from support import run_shards_here, save_tiny_ssl, tiny_config, tone_utterances

from pipeline.asr.targets import text_pieces
from pipeline.asr.text_pieces import FIRST_PIECE
from pipeline.corpus.read_outputs import read_split
from pipeline.graph.graph import build
from pipeline.graph.stage import StageContext
from pipeline.log.stage_log import StageLog
from pipeline.runtime import shard_pool

# Who speaks in which splits, and a letter that nobody else says.
SPEAKERS = {
    "ann": ("z", ("train", "valid", "seen")),
    "bob": ("y", ("train", "valid", "seen")),
    "cem": ("x", ("train", "unseen")),
}
IN_TRAINING = ("extract_features/train", "extract_features/valid", "fit_codebook", "train_joint")


def write_manifest(folder: Path, speakers) -> Path:
    """Two utterances of each speaker in each of his splits, named after him."""
    rows = []
    for who, (letter, splits) in speakers.items():
        for split in splits:
            for one in tone_utterances(folder, f"{who}-{split}-{letter}", 2):
                row = {"utt_id": one.utt_id, "audio": one.audio, "text": one.text + letter}
                rows.append({**row, "split": split, "speaker": who})
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(scope="module")
def ssl_folder(tmp_path_factory):
    return save_tiny_ssl(tmp_path_factory.mktemp("ssl"))


@pytest.fixture
def graph_of(ssl_folder, tmp_path):
    """The graph over all folds of some speakers, when all corpora are prepared."""

    def make(speakers):
        manifest = write_manifest(tmp_path, speakers)
        splits = {"test": ["seen", "unseen"]}
        config = tiny_config(
            ssl_folder,
            corpus={"manifest": str(manifest), "splits": splits, "folds": "speaker"},
            training={"seeds": [0, 1]},
            storage=str(tmp_path / "runs"),
        )
        for node in build([config], ["prepare_corpus"]).pending():
            complete(node)
        return build([config])

    return make


def complete(node):
    """Run a node here."""
    log = StageLog(node.artifact)
    node.stage.run(
        StageContext(node.config, node.artifact, node.input_artifacts, log, split=node.split)
    )
    node.artifact.finish({})


def speakers_of(utt_ids):
    return {utt_id.partition("-")[0] for utt_id in utt_ids}


def test_no_utterance_of_the_speaker_is_trained_validated_or_clustered_on(graph_of, monkeypatch):
    monkeypatch.setattr(shard_pool, "run_shards", run_shards_here)
    graph = graph_of(SPEAKERS)
    assert [member.name for member in graph.members[:3]] == [
        "fold ann, seed 0",
        "fold ann, seed 1",
        "fold bob, seed 0",
    ]
    for member in graph.members[::2]:
        left_out, nodes = member.config.corpus.fold.speaker, member.nodes
        corpus = nodes["prepare_corpus"].artifact
        others = SPEAKERS.keys() - {left_out}
        assert {row.speaker for row in read_split(corpus, "train")} == others
        assert {row.speaker for row in read_split(corpus, "valid")} == others - {"cem"}
        tested = read_split(corpus, "test")
        assert {row.speaker for row in tested} == {left_out}
        assert len(tested) == 2 * len(SPEAKERS[left_out][1])
        # What codebook and frozen phases read.
        for split, heard in (("train", others), ("valid", others - {"cem"})):
            features = nodes[f"extract_features/{split}"]
            complete(features)
            shards = features.artifact.names("shards")
            rows = [
                row for name in shards for row in features.artifact.read_table(name).to_pylist()
            ]
            assert speakers_of(row["utt_id"] for row in rows) == heard
        assert nodes["fit_codebook"].inputs == {
            "extract_features/train": nodes["extract_features/train"].digest
        }
        # What the text pieces are made from.
        pieces = text_pieces(member.config, corpus)
        letters = {SPEAKERS[who][0] for who in SPEAKERS}
        learnt = set(pieces.decode(range(FIRST_PIECE, len(pieces))))
        assert learnt & letters == letters - {SPEAKERS[left_out][0]}


def test_a_speaker_who_says_something_else_changes_no_training_of_his_fold(graph_of):
    before = graph_of(SPEAKERS).members
    after = graph_of({**SPEAKERS, "bob": ("w", ("train", "valid", "unseen"))}).members
    for old, new in zip(before, after, strict=True):
        same = [name for name in IN_TRAINING if old.nodes[name].digest == new.nodes[name].digest]
        assert same == (list(IN_TRAINING) if "fold bob" in old.name else []), old.name
        changed = (
            old.nodes["tokenize_corpus/test"].digest != new.nodes["tokenize_corpus/test"].digest
        )
        assert changed


def test_seeds_of_one_fold_share_all_before_the_training(graph_of):
    first, second, other = graph_of(SPEAKERS).members[:3]
    for name in ("prepare_corpus", *IN_TRAINING[:3]):
        assert first.nodes[name] is second.nodes[name], name
        assert first.nodes[name].digest != other.nodes[name].digest, name
        assert first.nodes[name].member == "fold ann"
    assert first.nodes["train_joint"].label == "train_joint[tiny, fold ann, seed 0]"
    assert {first.nodes["train_joint"].digest}.isdisjoint({second.nodes["train_joint"].digest})
