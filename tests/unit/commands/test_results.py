"""Scores and word errors of variants, gathered over seeds and folds."""

import subprocess
import sys
from dataclasses import replace

import pytest
from evaluated_variants import SPEAKERS, config, evaluated, unfinished

from pipeline.commands.results import read_results
from pipeline.graph.graph import Graph
from pipeline.graph.stage import Stage
from pipeline.metrics import utterance_scores
from pipeline.metrics.utterance_scores import ScoredUtterance, Share


def test_a_variant_that_was_trained_once_has_the_scores_of_its_stages(tmp_path):
    graph = Graph((evaluated(tmp_path, "kmeans", [1] * 9),))
    found = read_results(graph, [config(tmp_path, "kmeans")])
    assert found.rows == {"kmeans": {"test.wer": 0.25, "test.cer": 0.125}}
    assert found.errors["test"]["kmeans"].errors_NU.tolist() == [[1] * 9]
    assert found.notes == []


READ_WITHOUT_PANDAS = """
import sys
sys.modules["pandas"] = None
from pipeline.metrics.word_errors import read_word_errors
from pipeline.storage.artifacts import Artifact
scored, corpus = map(Artifact, sys.argv[1:])
print(read_word_errors(scored, corpus, "test").errors_NU.sum())
"""


def test_pandas_is_not_imported(tmp_path):
    """It takes a second, which is half of a run that has nothing to compute."""
    nodes = evaluated(tmp_path, "kmeans", [2] * 9).nodes
    uris = [nodes[name].artifact.uri for name in ("evaluate_asr/test", "prepare_corpus")]
    command = [sys.executable, "-c", READ_WITHOUT_PANDAS, *uris]
    assert subprocess.run(command, capture_output=True, check=True).stdout.strip() == b"18"


def test_variants_stand_in_the_papers_order(tmp_path):
    names = ("mine", "dkm_full", "kmeans")
    graph = Graph(tuple(evaluated(tmp_path, name, [1] * 9) for name in names))
    found = read_results(graph, [config(tmp_path, name) for name in names])
    assert list(found.rows) == ["kmeans", "dkm_full", "mine"]


def test_seeds_give_means_and_all_their_errors(tmp_path):
    members = (
        evaluated(tmp_path, "kmeans", [1] * 9, name="seed 3", seed=3),
        evaluated(tmp_path, "kmeans", [3] * 9, name="seed 4", seed=4),
    )
    found = read_results(Graph(members), [config(tmp_path, "kmeans")])
    row = found.rows["kmeans"]
    assert (row["test.wer"], row["test.wer_num_seeds"], row["seeds"]) == (0.5, 2, 2)
    assert (row["test.wer[seed 3]"], row["test.wer[seed 4]"]) == (0.25, 0.75)
    assert row["test.cer"] == 0.25
    assert found.errors["test"]["kmeans"].errors_NU.tolist() == [[1] * 9, [3] * 9]


def test_a_stage_that_seeds_share_counts_once(tmp_path):
    first, second = (
        evaluated(tmp_path, "kmeans", [1] * 9, name=f"seed {seed}", seed=seed) for seed in (0, 1)
    )
    second.nodes["prepare_corpus"] = first.nodes["prepare_corpus"]
    first.nodes["prepare_corpus"].artifact.write_json("metrics.json", {"test.hours": 2.0})
    row = read_results(Graph((first, second)), [config(tmp_path, "kmeans")]).rows["kmeans"]
    assert [name for name in row if name.startswith("test.hours")] == ["test.hours"]
    assert (row["test.hours"], row["test.wer_num_seeds"]) == (2.0, 2)


def test_a_seed_that_is_not_evaluated_is_left_out_and_counted(tmp_path):
    members = (
        evaluated(tmp_path, "kmeans", [1] * 9, name="seed 0", seed=0),
        unfinished(evaluated(tmp_path, "kmeans", [3] * 9, name="seed 1", seed=1)),
    )
    found = read_results(Graph(members), [config(tmp_path, "kmeans")])
    row = found.rows["kmeans"]
    assert (row["test.wer"], row["test.wer_num_seeds"], row["seeds"]) == (0.25, 1, 2)
    assert found.errors["test"]["kmeans"].num_trainings == 1


def folds(tmp_path, seed=0):
    """Two folds of three utterances: 3 of 8 words wrong for a, 1 of 4 for b."""
    names = ["fold a", "fold b"] if not seed else [f"fold a, seed {seed}", f"fold b, seed {seed}"]
    return (
        evaluated(tmp_path, "kmeans", [1, 2], {"u1": "a", "u3": "a"}, name=names[0], seed=seed),
        evaluated(tmp_path, "kmeans", [1], {"u2": "b"}, name=names[1], seed=seed),
    )


def test_the_utterances_of_all_folds_are_one_test_set(tmp_path):
    found = read_results(Graph(folds(tmp_path)), [config(tmp_path, "kmeans")])
    row = found.rows["kmeans"]
    assert row["test.wer"] == 4 / 12
    assert (row["test.wer[fold a]"], row["test.wer[fold b]"]) == (3 / 8, 1 / 4)
    assert row["test.cer"] == (3 / 16 + 1 / 8) / 2  # of other scores the mean
    errors = found.errors["test"]["kmeans"]
    assert [utterance.utt_id for utterance in errors.utterances] == ["u1", "u3", "u2"]
    assert errors.errors_NU.tolist() == [[1, 2, 1]]


def test_a_seed_counts_once_all_its_folds_are_evaluated(tmp_path):
    whole, half = folds(tmp_path, 1), folds(tmp_path, 2)
    unfinished(half[1])
    found = read_results(Graph((*whole, *half)), [config(tmp_path, "kmeans")])
    row = found.rows["kmeans"]
    assert (row["test.wer"], row["test.wer_num_seeds"], row["seeds"]) == (4 / 12, 1, 2)
    assert row["test.wer[fold a, seed 2]"] == 3 / 8
    assert found.errors["test"]["kmeans"].num_trainings == 1


@pytest.mark.parametrize("damage", ["missing", "not Parquet"])
def test_hypotheses_that_are_missing_or_damaged_are_named(tmp_path, damage):
    members = (
        evaluated(tmp_path, "kmeans", [1] * 9, name="seed 0", seed=0),
        evaluated(tmp_path, "kmeans", [3] * 9, name="seed 1", seed=1),
        evaluated(tmp_path, "dkm_full", [1] * 9),
    )
    output = members[1].nodes["evaluate_asr/test"].artifact
    output.delete("hypotheses.parquet")
    if damage != "missing":
        with output.write("hypotheses.parquet") as file:
            file.write(damage.encode())
    found = read_results(
        Graph(members), [config(tmp_path, name) for name in ("kmeans", "dkm_full")]
    )
    assert found.rows["kmeans"]["test.wer"] == 0.5
    assert list(found.errors["test"]) == ["dkm_full"]
    [note] = found.notes
    assert note.startswith("test: no interval and no p for kmeans: ")
    assert damage != "missing" or "hypotheses.parquet is missing" in note


def spoken(member, errors, stage="evaluate_resynthesis"):
    """The member with scores of speech, of which each reference has four words."""
    node = replace(
        member.nodes["evaluate_asr/test"], stage=Stage(stage, 1, dict, dict), digest=member.name
    )
    scored = [
        ScoredUtterance(f"u{i}", "test", "ab"[i % 2], {"resynthesis_wer": Share(number, 4)})
        for i, number in enumerate(errors)
    ]
    totals = utterance_scores.write(node.artifact, scored)
    node.artifact.write_json("metrics.json", {f"test.{name}": totals[name] for name in totals})
    node.artifact.finish({})
    member.nodes[f"{stage}/test"] = node
    return scored


@pytest.mark.parametrize(
    "stage", ["evaluate_resynthesis", "judge_resynthesis", "bound_resynthesis"]
)
def test_scores_of_speech_have_intervals(tmp_path, stage):
    member = evaluated(tmp_path, "kmeans", [1] * 9, name="m")
    scored = spoken(member, [1, 0, 3, 2], stage)
    row = read_results(Graph((member,)), [config(tmp_path, "kmeans")]).rows["kmeans"]
    edges = utterance_scores.intervals(scored)
    found = [row[f"test.resynthesis_wer{end}"] for end in ("", "_low", "_high")]
    assert found == [6 / 16, edges["resynthesis_wer_low"], edges["resynthesis_wer_high"]]


def test_speech_of_all_folds_is_pooled_and_of_the_first_seed_alone(tmp_path):
    first, second = folds(tmp_path, 1), folds(tmp_path, 2)
    spoken(first[0], [1, 0, 3])
    spoken(first[1], [4])
    row = read_results(Graph((*first, *second)), [config(tmp_path, "kmeans")]).rows["kmeans"]
    assert row["test.resynthesis_wer"] == 8 / 16
    assert row["test.resynthesis_wer_num_seeds"] == 1
    assert row["test.resynthesis_wer_low"] < 8 / 16 < row["test.resynthesis_wer_high"]
    assert "test.resynthesis_wer_low_num_seeds" not in row


def test_scores_of_speech_that_are_damaged_are_named(tmp_path):
    member = evaluated(tmp_path, "kmeans", [1] * 9, name="m")
    spoken(member, [1, 0, 3, 2])
    with member.nodes["evaluate_resynthesis/test"].artifact.write("scores.parquet") as file:
        file.write(b"not Parquet")
    found = read_results(Graph((member,)), [config(tmp_path, "kmeans")])
    assert found.rows["kmeans"]["test.resynthesis_wer"] == 6 / 16
    [note] = found.notes
    assert note.startswith("test: no interval of evaluate_resynthesis for kmeans: ")


def test_nothing_evaluated_is_nothing_to_say(tmp_path):
    member = unfinished(evaluated(tmp_path, "kmeans", [1] * len(SPEAKERS)))
    found = read_results(Graph((member,)), [config(tmp_path, "kmeans")])
    assert (found.rows, dict(found.errors), found.notes) == ({"kmeans": {}}, {}, [])


def test_scores_of_stages_that_a_config_adds_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    declared = "from pipeline.graph.stage import Stage\nSTAGE = Stage('own', 1, dict, dict)\n"
    (tmp_path / "my_own_stage.py").write_text(declared)
    member = evaluated(tmp_path, "kmeans", [1] * 9)
    settings = member.config.model_copy(update={"extra_stages": ("my_own_stage",)})
    own = replace(member.nodes["evaluate_asr/test"], stage=Stage("own", 1, dict, dict), split="")
    own.artifact.write_json("metrics.json", {"test.wer": 1.0, "test.cer": 0.5, "test.pairs": 2.0})
    own.artifact.finish({})
    member = replace(member, config=settings, nodes={**member.nodes, "own": own})
    found = read_results(Graph((member,)), [settings])
    assert found.own == {"test.pairs"}
    assert found.rows["kmeans"]["test.pairs"] == 2.0
    assert found.rows["kmeans"]["own.test.cer"] == 0.5
    without = member.config.model_copy(update={"extra_stages": ()})
    assert read_results(Graph((replace(member, config=without),)), [without]).own == set()
