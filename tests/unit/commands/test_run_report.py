"""What `run` says at its end of what failed, and of how to go on."""

import sys
from contextlib import nullcontext
from dataclasses import replace
from unittest.mock import Mock

import pytest

pytest.importorskip("ray")

from evaluated_variants import config, evaluated
from rich.console import Console

from pipeline.commands import run, track
from pipeline.config import Config, Tracking
from pipeline.corpus.adapters.synthetic import SyntheticCorpus
from pipeline.graph.graph import Graph, Member, Node
from pipeline.graph.stage import Stage
from pipeline.runtime import scheduler
from pipeline.runtime.node_run import NodeOutcome
from pipeline.runtime.scheduler import Outcome
from pipeline.storage.artifacts import ArtifactError
from pipeline.storage.failures import StorageError

CONFIG = Config(
    variant="tiny",
    corpus=SyntheticCorpus(),
    ssl={"model": "some/model", "revision": "0" * 40},
)


def node(name):
    stage = Stage(name, 1, lambda _: {}, lambda _: {})
    return Node(stage, name, CONFIG, {"tiny": ()}, {}, {})


FAILED = NodeOutcome(node("train"), "failed", error="lower the rate [1]", log="s3://b/error.log")
SKIPPED = NodeOutcome(node("evaluate"), "skipped", error="it needs train[tiny], which failed")
DONE = NodeOutcome(node("extract"), "done")


def said(*outcomes):
    console = Console(width=200)
    with console.capture() as captured:
        run._show_failures(Outcome(outcomes), console)
    return captured.get()


def test_a_run_that_ends_well_says_nothing_of_failures():
    assert said(DONE) == ""


def test_what_failed_why_what_waits_for_it_and_the_command_that_goes_on(monkeypatch):
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    monkeypatch.setattr(sys, "argv", ["x", "run", "a.yaml", "--set", "corpus.root=/my data"])
    lines = [line.strip() for line in said(DONE, FAILED, SKIPPED).splitlines()]
    assert lines[1:] == [
        "1 failed:",
        "train[tiny]: lower the rate [1]",
        "traceback: s3://b/error.log",
        "not started, because they need what failed:",
        "evaluate[tiny]: it needs train[tiny], which failed",
        "Completed stages are kept. Fix the cause, then resume with",
        "python -m pipeline run a.yaml --set 'corpus.root=/my data'",
        "",
    ]


def test_a_job_is_submitted_again(monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    argv = ["x", "run", "a.yaml", "--set=asr.dim=8", "--set=cluster.address=auto", "--stage=train"]
    monkeypatch.setattr(sys, "argv", argv)
    again = "python -m pipeline submit a.yaml --set=asr.dim=8 --stage=train"
    assert said(FAILED).splitlines()[-2].strip() == again


def ended(graph, configs):
    """The scores that MLflow gets, by variant."""
    session = Mock()
    track.end_variants(session, lambda: graph, configs, lambda *_: "FINISHED")
    return {each.args[0].variant: each.args[1].scores for each in session.end.call_args_list}


@pytest.mark.parametrize("error", [StorageError("out of reach"), ArtifactError("gone")])
def test_scores_that_cannot_be_read_do_not_hide_how_the_run_ended(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(track, "read_results", fail)
    assert ended(Graph(()), [CONFIG]) == {"tiny": {}}


def test_mlflow_gets_the_mean_over_seeds(tmp_path):
    errors = {"kmeans": ([2] * 9, [3] * 9), "dkm_full": ([1] * 9, [1] * 9)}
    graph = Graph(
        tuple(
            evaluated(tmp_path, variant, each[seed], name=f"seed {seed}", seed=seed)
            for variant, each in errors.items()
            for seed in (0, 1)
        )
    )
    found = ended(graph, [config(tmp_path, variant) for variant in errors])
    assert found["kmeans"]["test/WER in percent"] == 62.5
    assert found["dkm_full"]["test/WER reduction in percent"] == pytest.approx(60.0)


def test_the_folder_of_each_trained_model_is_named(tmp_path):
    config = CONFIG.model_copy(update={"storage": str(tmp_path)})
    trained, other = (replace(node(name), config=config) for name in ("train_joint", "extract"))
    nodes = {"train_joint": trained, "extract": other}
    graph = Graph(tuple(Member(name, config, nodes) for name in ("", "seed 1")))
    console = Console(width=200)
    with console.capture() as captured:
        run._show_models(graph, console)
    assert captured.get() == ""
    trained.artifact.finish({})
    with console.capture() as captured:
        run._show_models(graph, console)
    assert captured.get().splitlines() == [
        f"Model of tiny: {trained.artifact.uri}",
        f"Model of tiny, seed 1: {trained.artifact.uri}",
    ]


@pytest.mark.parametrize(
    ("only", "is_complete"), [((), True), ((), False), (("evaluate_asr",), False)]
)
def test_a_run_of_all_stages_ends_with_the_page(tmp_path, monkeypatch, only, is_complete):
    member = evaluated(tmp_path, "kmeans", [1] * 9)
    scored = member.nodes["evaluate_asr/test"].artifact
    if not is_complete:
        scored.delete("manifest.json")
    silent = member.config.model_copy(update={"tracking": Tracking(enabled=False)})
    monkeypatch.setattr(run, "build", lambda *_, **__: Graph((member,)))
    monkeypatch.setattr(run.plan, "show", lambda *_: None)
    monkeypatch.setattr(run, "on_ray", lambda *_: nullcontext())
    monkeypatch.setattr(scheduler, "execute", lambda *_: scored.finish({}) or Outcome(()))
    console = Console(width=200)
    with console.capture() as captured:
        assert run.run([silent], only, console)
    assert (tmp_path / "report.html").exists() == (not only)
    assert (f"Page: {tmp_path}/report.html" in captured.get()) == (not only)


def test_a_run_without_work_makes_the_page_unless_it_is_of_the_same_outputs(tmp_path, monkeypatch):
    """One of a single variant in between has left a page of that one."""
    members = [evaluated(tmp_path, name, [1] * 9) for name in ("kmeans", "dkm_full")]
    monkeypatch.setattr(run.plan, "show", lambda *_: None)
    page = tmp_path / "report.html"

    def run_of(*members):
        silent = [
            m.config.model_copy(update={"tracking": Tracking(enabled=False)}) for m in members
        ]
        monkeypatch.setattr(run, "build", lambda *_, **__: Graph(members))
        assert run.run(silent, (), Console(width=200))
        return page.read_text()

    both, alone, again = run_of(*members), run_of(members[0]), run_of(*members)
    assert "dkm_full" not in alone
    assert again == both
    page.write_text(again + "<!-- as it was -->")
    assert run_of(*members).endswith("<!-- as it was -->")
