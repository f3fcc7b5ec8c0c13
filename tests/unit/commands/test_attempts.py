"""The trials of a tuning: one graph without test splits, and what becomes of an impossible setting."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.audio.utterance import CorpusError
from pipeline.commands.attempts import Attempt, Attempts, Variant, scored_stage
from pipeline.commands.tuned_config import MARK, TunedConfig, settings_of
from pipeline.config import ConfigError
from pipeline.config.files import load
from pipeline.config.yaml_file import Node
from pipeline.graph.graph import PARTS
from pipeline.metrics.trials import LOSS, WER
from pipeline.storage.artifacts import METRICS
from tasks import extract_features, fit_codebook, train_joint

BASE = """
storage: {storage}
corpus: {{kind: synthetic}}
ssl: {{model: some/model, revision: "0000000"}}
quantizer: {{kind: {kind}, layer_weights: fixed}}
training: {{phases: [{{epochs: 3}}, {{epochs: 5, learning_rates: {{ssl: 1.0e-3}}}}], seeds: [0, 1]}}
"""


@pytest.fixture
def variant(tmp_path):
    def make(name="kmeans", kind="kmeans"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(BASE.format(storage=json.dumps(str(tmp_path / "runs")), kind=kind))
        return Variant(path, [], load(path))

    return make


def settings(**values):
    return {key.replace("__", "."): Node(value, "space.yaml:1") for key, value in values.items()}


def test_with_token_asr_the_trials_are_compared_by_it(variant):
    attempt = Attempt.of(variant(), 1, settings(token_asr__enabled=True))
    graph = Attempts([attempt]).graph()
    added = {"train_token_asr", "tokenize_corpus/train", "tokenize_corpus/valid"}
    assert {node.name for node in graph.nodes} >= added
    assert not any("test" in node.name for node in graph.nodes)
    assert scored_stage(attempt.config) == "train_token_asr"


def test_the_graph_holds_nothing_of_a_test_split(variant):
    attempts = Attempts([Attempt.of(variant(), 1, {}), Attempt.of(variant("dkm", "dkm"), 1, {})])
    graph = attempts.graph()
    assert {node.name for node in graph.nodes} == {
        "prepare_corpus",
        "extract_features/train",
        "extract_features/valid",
        "fit_codebook",
        "train_joint",
    }
    read = {
        part
        for node in graph.nodes
        for each in node.stage.inputs(node.config, node.split)
        for part in each.parts
    }
    assert read == {f"{split}/{kind}" for split in ("train", "valid") for kind in ("audio", "text")}


def test_trials_share_what_their_settings_agree_on_and_run_finds_what_they_have_made(variant):
    kmeans = variant()
    tried = [{}, settings(asr__dropout=0.2), settings(asr__dropout=0.1)]
    attempts = Attempts(Attempt.of(kmeans, number, each) for number, each in enumerate(tried, 1))
    nodes = attempts.graph().nodes
    trained = [node for node in nodes if node.name == "train_joint"]
    # Two seeds each of two settings: dropout is 0.1 as the config stands.
    assert len(trained) == 4
    assert sorted(set(trained[0].variants)) == ["kmeans trial 1", "kmeans trial 3"]
    assert len(nodes) - len(trained) == 4
    tracking = {node.config.tracking.experiment for node in nodes}
    assert tracking == {"pipeline-tuning"}


def test_a_setting_that_cannot_be_is_a_failed_trial_with_its_line_and_the_others_go_on(variant):
    tried = [settings(asr__heads=3), settings(asr__heads=2)]
    attempts = Attempts(Attempt.of(variant(), number, each) for number, each in enumerate(tried, 1))
    assert [attempt.number for attempt, _ in attempts.going_on()] == [2]
    assert {name for node in attempts.graph().nodes for name in node.variants} == {"kmeans trial 2"}
    failed, waiting = attempts.trials().values()
    assert "space.yaml:1" in failed.error
    assert failed.settings == {"asr.heads": 3}
    assert waiting.error == "it was stopped"


@pytest.mark.parametrize("trained", ["asr", "token_asr.asr"])
def test_trials_are_not_compared_by_a_ctc_that_is_not_trained(variant, trained):
    untrained = [f"{trained}.ctc_weight=0", "asr_evaluation.ctc_weight=0", "vocoder.enabled=false"]
    config = replace(variant(), overrides=[*untrained, f"token_asr.enabled={trained != 'asr'}"])
    assert "ctc_weight 0 does not train" in Attempt.of(config, 1, {}).error


def test_what_the_data_do_not_allow_fails_once_the_corpus_is_prepared(variant, monkeypatch):
    def check(config, _inputs):
        if config.asr.dim == 128:
            raise CorpusError("too many units")

    for module in (train_joint, fit_codebook, extract_features):
        stage = replace(module.STAGE, check=check if module is train_joint else lambda *_: None)
        monkeypatch.setattr(module, "STAGE", stage)
    kmeans = variant()
    attempts = Attempts(Attempt.of(kmeans, n, settings(asr__dim=64 * n)) for n in (1, 2, 3))
    [prepared] = (node for node in attempts.graph().nodes if node.name == "prepare_corpus")
    assert len(list(attempts.going_on())) == 3
    parts = {f"{split}/{part}": "x" for split in ("train", "valid") for part in ("audio", "text")}
    prepared.artifact.write_json(PARTS, parts)
    prepared.artifact.finish({})
    left = attempts.graph()
    assert {name for node in left.nodes for name in node.variants} == {
        "kmeans trial 1",
        "kmeans trial 3",
    }
    assert attempts.trials_of(kmeans).trials[1].error == "too many units"


def test_a_failed_node_ends_all_trials_that_need_it(variant):
    kmeans = variant()
    attempts = Attempts(Attempt.of(kmeans, n, settings(asr__dim=64 * n)) for n in (1, 2, 3))
    attempts.fail(("kmeans trial 1", "kmeans trial 3"), "no frames")
    assert [attempt.number for attempt, _ in attempts.going_on()] == [2]
    assert [each.error for each in attempts.trials_of(kmeans).trials] == [
        "no frames",
        "it was stopped",
        "no frames",
    ]


def test_a_score_is_the_mean_over_the_seeds_and_one_that_is_no_number_is_a_failure(variant):
    kmeans = variant()
    attempts = Attempts(Attempt.of(kmeans, n, settings(asr__dim=64 * n)) for n in (1, 2))
    measured = {1: [(0.5, 2.0), (0.25, 1.0)], 2: [(1.0, 1.0), (1.0, float("nan"))]}
    for number, scores in measured.items():
        for member, (wer, loss) in zip(
            attempts.graph().members_of(f"kmeans trial {number}"), scores, strict=True
        ):
            output = member.nodes["train_joint"].artifact
            output.write_json(METRICS, {WER: wer, LOSS: loss, "steps": 3.0})
            output.finish({})
    good, bad = attempts.trials_of(kmeans).trials
    assert good.scores == {WER: 0.375, LOSS: 1.5}
    assert len(good.digests) == 2
    assert bad.scores is None
    assert "diverged" in bad.error


def test_a_variant_leaves_out_what_it_does_not_have(variant):
    drawn = {"training.phases[1].epochs": Node(9, "s"), "training.phases[2].epochs": Node(9, "s")}
    attempt = Attempt.of(variant(), 1, drawn)
    assert list(attempt.settings) == ["training.phases[1].epochs"]
    assert [phase.epochs for phase in attempt.config.training.phases] == [3, 9]


def test_a_tuned_config_extends_the_one_that_was_tuned(variant, tmp_path):
    kmeans = variant()
    drawn = settings(asr__dropout=0.25, quantizer__sigma={"value": Node(3.0, "s")})
    drawn["training.phases[].learning_rates.asr"] = Node(3e-3, "s")
    attempts = Attempts([Attempt.of(kmeans, 1, drawn)])
    best = attempts.settings_of(kmeans, 1)
    assert best["asr"] == {"dropout": 0.25}
    assert best["training"] == {
        "phases": [
            {"epochs": 3, "learning_rates": {"asr": 3e-3}},
            {"epochs": 5, "learning_rates": {"ssl": 1e-3, "asr": 3e-3}},
        ]
    }
    tuned = TunedConfig(kmeans.file, tmp_path / "tuned")
    tuned.check()
    tuned.write("kmeans", best, ["the best of 1", "record"])
    [(_, tried)] = attempts.going_on()
    found = load(tuned.path)
    kept = {"variant": "kmeans", "tracking": found.tracking}
    assert found == tried.model_copy(update=kept)
    assert tuned.path.read_text().startswith(
        f"{MARK}\n# the best of 1\n# record\nextends: ../kmeans"
    )
    tuned.check()  # its own file may be replaced


def test_a_file_of_somebody_is_not_replaced(variant, tmp_path):
    with pytest.raises(ConfigError, match=r"kmeans\.yaml was not written by `tune`"):
        TunedConfig(Path("elsewhere/kmeans.yaml"), variant().file.parent).check()


def test_nothing_set_is_nothing_to_write(variant):
    assert settings_of(variant().config, []) == {}
