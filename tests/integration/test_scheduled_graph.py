"""The graph with toy stages on a real Ray: sharing, resuming, failing, side by side."""

import dataclasses
import io
import json
import os
import signal
import sys
from pathlib import Path

import pytest
import ray
from rich.console import Console

from pipeline.commands.run_display import RunDisplay
from pipeline.config import Cluster, Config, Training
from pipeline.corpus.adapters.synthetic import SyntheticCorpus
from pipeline.graph import graph as stage_graph
from pipeline.graph.stage import Input, Stage, StageContext
from pipeline.log.read_log import LogReader
from pipeline.runtime import scheduler
from pipeline.storage.artifacts import ArtifactError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]


def config(storage: Path, variant: str, **changes) -> Config:
    return Config(
        variant=variant,
        storage=str(storage),
        corpus=SyntheticCorpus(),
        ssl={"model": "some/model", "revision": "0" * 40},
        tracking={"enabled": False},
        **changes,
    )


def write_number(context: StageContext) -> dict[str, float]:
    """Add one to the sum of the inputs, and record that it ran."""
    total = 1 + sum(
        artifact.read_json("number.json")["value"] for artifact in context.inputs.values()
    )
    context.output.write_json("number.json", {"value": total})
    with (Path(context.config.storage) / "ran.txt").open("a") as trace:
        trace.write(f"{context.output.uri.split('/')[-2]} {context.config.variant}\n")
    return {"value": total}


def fail_for_dkm(context: StageContext) -> dict[str, float]:
    if context.config.quantizer.kind == "dkm":
        raise ArtifactError("the codebook is made of cheese: use another")
    return write_number(context)


def stumble(context: StageContext) -> dict[str, float]:
    raise ZeroDivisionError("no frames")


def kind(config: Config) -> dict[str, str]:
    return {"kind": config.quantizer.kind}


def kind_and_seed(config: Config) -> dict[str, str | int]:
    return {"kind": config.quantizer.kind, "seed": config.training.seed}


def nothing(config: Config) -> dict[str, str]:
    return {}


ALL_WORKERS = 10_000

TOYS = (
    Stage("corpus", 1, nothing, write_number, cpus=1),
    Stage(
        "train",
        1,
        kind,
        write_number,
        inputs=lambda *_: (Input("corpus"),),
        workers=lambda _: ALL_WORKERS,
    ),
    Stage("evaluate", 1, nothing, write_number, inputs=lambda *_: (Input("train"),), cpus=1),
    Stage(
        "report",
        1,
        nothing,
        write_number,
        inputs=lambda *_: (Input("train"), Input("evaluate")),
        cpus=1,
    ),
)


@pytest.fixture(autouse=True)
def toys_travel():
    """Workers cannot import this file, so its functions are sent to them."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def build(monkeypatch):
    """A graph over two variants from toy stages, some replaced by name."""

    def make(storage: Path, max_failures: int = 0, seeds=(0,), **replaced):
        stages = [dataclasses.replace(toy, **replaced.get(toy.name, {})) for toy in TOYS]
        monkeypatch.setattr(stage_graph, "load_stage", {stage.name: stage for stage in stages}.get)
        configs = [
            config(storage, "kmeans", quantizer={"kind": "kmeans", "layer_weights": "fixed"}),
            config(storage, "dkm"),
        ]
        update = {"cluster": Cluster(max_failures=max_failures), "training": Training(seeds=seeds)}
        configs = [one.model_copy(update=update) for one in configs]
        return stage_graph.build(configs, default_stages=[stage.name for stage in stages])

    return make


def execute(graph: stage_graph.Graph) -> tuple[scheduler.Outcome, list[str]]:
    """The outcome, and the lines of a log."""
    log = io.StringIO()
    with RunDisplay(Console(file=log)) as display:
        outcome = scheduler.execute(lambda: graph, display)
    return outcome, [line[len("  0:00  ") :] for line in log.getvalue().splitlines()]


def trace(storage: Path) -> list[str]:
    return sorted((storage / "ran.txt").read_text().splitlines())


def statuses(outcome: scheduler.Outcome) -> dict[str, str]:
    return {node.node.label: node.status for node in outcome.nodes}


def test_shared_nodes_run_once_and_a_second_run_recomputes_nothing(build, tmp_path):
    outcome, lines = execute(build(tmp_path))

    assert not outcome.failed
    assert len(outcome.nodes) == 7
    first = trace(tmp_path)
    assert first == sorted(
        ["corpus kmeans"]
        + [
            f"{stage} {variant}"
            for stage in ("train", "evaluate", "report")
            for variant in ("kmeans", "dkm")
        ]
    )
    assert sum(line.endswith("starts") for line in lines) == 7

    again, lines = execute(build(tmp_path))
    assert again.nodes == ()
    assert lines == []
    assert trace(tmp_path) == first


def test_every_seed_of_a_variant_runs_and_shares_what_no_seed_changes(build, tmp_path):
    graph = build(tmp_path, seeds=(4, 2), train={"settings": kind_and_seed})
    outcome, _ = execute(graph)
    assert statuses(outcome) == {
        "corpus[kmeans +1]": "done",
        **{
            f"{stage}[{variant}, seed {seed}]": "done"
            for stage in ("train", "evaluate", "report")
            for variant in ("kmeans", "dkm")
            for seed in (4, 2)
        },
    }
    again, _ = execute(build(tmp_path, seeds=(2,), train={"settings": kind_and_seed}))
    assert again.nodes == ()


def test_outputs_carry_scores_and_a_manifest_that_says_what_made_them(build, tmp_path):
    graph = build(tmp_path)
    execute(graph)

    node = graph.members_of("dkm")[0].nodes["report"]
    assert node.artifact.metrics() == {"value": 1 + 2 + 3}
    manifest = node.artifact.read_json("manifest.json")
    assert manifest["digest"] == node.digest
    assert manifest["inputs"] == node.inputs
    assert manifest["seconds"] > 0
    assert manifest["versions"]["python"].startswith("3.")
    assert set(manifest["files"]) == {"number.json", "metrics.json"}


def test_a_lost_output_alone_is_made_again(build, tmp_path):
    graph = build(tmp_path)
    execute(graph)
    before = trace(tmp_path)
    graph.members_of("dkm")[0].nodes["evaluate"].artifact.delete("manifest.json")

    outcome, _ = execute(build(tmp_path))

    assert statuses(outcome) == {"evaluate[dkm]": "done"}
    assert trace(tmp_path) == sorted([*before, "evaluate dkm"])


def test_a_changed_version_reaches_what_depends_on_it_and_nothing_else(build, tmp_path):
    execute(build(tmp_path))
    outcome, _ = execute(build(tmp_path, evaluate={"version": 2}))
    assert sorted(statuses(outcome)) == [
        "evaluate[dkm]",
        "evaluate[kmeans]",
        "report[dkm]",
        "report[kmeans]",
    ]


def test_a_failure_takes_only_its_readers_along_and_can_be_resumed(build, tmp_path):
    outcome, _ = execute(build(tmp_path, train={"run": fail_for_dkm}))

    assert statuses(outcome) == {
        "corpus[kmeans +1]": "done",
        "train[kmeans]": "done",
        "evaluate[kmeans]": "done",
        "report[kmeans]": "done",
        "train[dkm]": "failed",
        "evaluate[dkm]": "skipped",
        "report[dkm]": "skipped",
    }
    (failed,) = outcome.failed
    assert failed.error == "the codebook is made of cheese: use another"

    fixed, _ = execute(build(tmp_path))
    assert set(statuses(fixed)) == {"train[dkm]", "evaluate[dkm]", "report[dkm]"}
    assert not fixed.failed


def test_an_unexpected_error_is_one_line_here_and_a_traceback_in_the_log(build, tmp_path):
    outcome, lines = execute(build(tmp_path, corpus={"run": stumble}))

    (failed,) = outcome.failed
    assert failed.error == "ZeroDivisionError: no frames"
    log = Path(failed.log).read_text()
    assert "Traceback" in log
    assert "in stumble" in log
    assert len(outcome.skipped) == 6
    assert not any("Traceback" in line for line in lines)

    graph = build(tmp_path)
    execute(graph)
    assert "error.log" not in json.dumps(graph.nodes[0].artifact.read_json("manifest.json"))


def die_for_dkm(context: StageContext) -> dict[str, float]:
    if context.config.quantizer.kind == "dkm":
        os.kill(os.getpid(), signal.SIGKILL)
    return write_number(context)


def test_a_killed_process_is_a_failed_node(build, tmp_path):
    outcome, _ = execute(build(tmp_path, evaluate={"run": die_for_dkm}))
    assert [node.node.label for node in outcome.failed] == ["evaluate[dkm]"]
    assert [node.node.label for node in outcome.skipped] == ["report[dkm]"]
    assert "process was lost" in outcome.failed[0].error


def die_once_for_dkm(context: StageContext) -> dict[str, float]:
    """Write half of the work, then die; the next process finds it and continues."""
    if context.config.quantizer.kind != "dkm":
        return write_number(context)
    if not context.output.exists("half.json"):
        context.output.write_json("half.json", os.getpid())
        os.kill(os.getpid(), signal.SIGKILL)
    assert context.output.read_json("half.json") != os.getpid()
    return write_number(context)


# Beside the driver, and anywhere.
@pytest.mark.parametrize("stage", ["train", pytest.param("evaluate", marks=pytest.mark.soak)])
def test_a_killed_process_is_followed_by_one_that_goes_on_unless_it_is_lost_again_and_again(
    build, tmp_path, stage
):
    stages = {stage: {"run": die_once_for_dkm}, "report": {"run": die_for_dkm}}
    outcome, lines = execute(build(tmp_path, max_failures=1, **stages))
    said = [line for line in lines if "starts again, loss 1 of at most 1" in line]
    assert [line.partition(" ")[0] for line in said] == [f"{stage}[dkm]", "report[dkm]"]
    assert trace(tmp_path).count(f"{stage} dkm") == 1
    [failed] = outcome.failed
    assert failed.node.label == "report[dkm]"
    assert "lost 2 times, more than cluster.max_failures" in failed.error
    assert lines.count("report[dkm] starts") == 2
    assert [name for name, status in statuses(outcome).items() if status != "done"] == [
        "report[dkm]"
    ]


def test_stages_whose_workers_take_all_cpus_run_in_turn(build, tmp_path):
    _, lines = execute(build(tmp_path))
    training = 0
    for line in lines:
        if line.startswith("train"):
            training += 1 if line.endswith("starts") else -1
            assert training <= 1


def test_every_stage_that_starts_is_told_and_leaves_a_log(build, tmp_path):
    graph, started = build(tmp_path, evaluate={"run": fail_for_dkm}), []
    with RunDisplay(Console(file=io.StringIO())) as display:
        scheduler.execute(lambda: graph, display, started.append)
    assert len(started) == 6
    for node in started:
        first, *rest = LogReader(node.artifact).new()
        assert first["started"]
        failed = (node.name, node.config.variant) == ("evaluate", "dkm")
        assert [entry["error"] for entry in rest if "error" in entry] == failed * [
            "the codebook is made of cheese: use another"
        ]


def write_parts(context: StageContext) -> dict[str, float]:
    context.output.write_json("parts.json", {"text": "t"})
    return write_number(context)


def read_text(*_):
    return (Input("corpus", parts=("text",)),)


def test_what_awaits_a_corpus_runs_under_the_digest_of_its_content(build, tmp_path):
    options = {
        "corpus": {"run": write_parts, "has_parts": True},
        "train": {"inputs": read_text},
    }
    graph = build(tmp_path, **options)
    assert [node.awaits for node in graph.nodes].count("corpus") == 6
    log = io.StringIO()
    with RunDisplay(Console(file=log)) as display:
        outcome = scheduler.execute(lambda: build(tmp_path, **options), display)
    assert outcome.failed == outcome.skipped == ()
    known = build(tmp_path, **options)
    assert known.pending() == ()
    before, after = (each.members_of("dkm")[0].nodes["train"] for each in (graph, known))
    assert after.reads == {"corpus": {"text": "t"}} != before.reads
    assert len(outcome.nodes) == 7


def test_what_awaits_a_corpus_that_fails_does_not_start(build, tmp_path):
    options = {"corpus": {"run": stumble, "has_parts": True}, "train": {"inputs": read_text}}
    log = io.StringIO()
    with RunDisplay(Console(file=log)) as display:
        outcome = scheduler.execute(lambda: build(tmp_path, **options), display)
    assert [each.node.name for each in outcome.failed] == ["corpus"]
    assert len(outcome.skipped) == 6


def test_texts_that_cannot_be_learnt_end_the_run_before_it_computes(build, tmp_path):
    def refuse(*_):
        raise ArtifactError("the texts are made of cheese")

    options = {
        "corpus": {"run": write_parts, "has_parts": True},
        "train": {"inputs": read_text, "check": refuse},
    }
    log = io.StringIO()
    with (
        RunDisplay(Console(file=log)) as display,
        pytest.raises(ArtifactError, match="cheese"),
    ):
        scheduler.execute(lambda: build(tmp_path, **options), display)
    assert trace(tmp_path) == ["corpus kmeans"]
