"""What reads parts of a corpus: when its digest is known, and when it is checked."""

from dataclasses import replace

import pytest
from toy_graphs import KMEANS, config, nodes_of, run, seeded, stage

from pipeline.config import ConfigError
from pipeline.corpus.adapters.synthetic import SyntheticCorpus
from pipeline.graph import graph as stage_graph
from pipeline.graph.stage import Input, Stage
from pipeline.storage.artifacts import ArtifactError


def write_parts(graph: stage_graph.Graph, **parts: str) -> None:
    """Complete the corpus of a graph with some parts."""
    output = graph.members_of("v")[0].nodes["corpus"].artifact
    output.write_json(stage_graph.PARTS, parts)
    output.finish({})


PARTS = (
    stage("corpus", reads="corpus", has_parts=True),
    stage("features", Input("corpus", parts=("audio",)), reads="features"),
    stage("train", "features", Input("corpus", parts=("text",))),
    stage("own", "corpus"),
)


def test_what_reads_parts_awaits_them_and_so_does_what_reads_it(build, tmp_path):
    graph = build([config("v", storage=str(tmp_path))], PARTS)
    assert [node.awaits for node in graph.nodes] == ["", "corpus", "corpus", "corpus"]
    write_parts(graph, audio="a", text="t")
    known = build([config("v", storage=str(tmp_path))], PARTS)
    assert not any(node.awaits for node in known.nodes)
    assert nodes_of(known, "v")["features"].reads == {"corpus": {"audio": "a"}}
    assert nodes_of(known, "v")["own"].reads == {"corpus": {"audio": "a", "text": "t"}}
    corpus = nodes_of(known, "v")["corpus"]
    assert nodes_of(known, "v")["features"].inputs == {"corpus": corpus.digest}


def test_a_digest_covers_the_parts_that_are_read_and_not_how_they_were_asked_for(build, tmp_path):
    def digests(parts, **corpus):
        asked = config("v", storage=str(tmp_path))
        asked = asked.model_copy(update={"corpus": SyntheticCorpus(**corpus)})
        write_parts(build([asked], PARTS), **parts)
        return {node.name: node.digest for node in build([asked], PARTS).nodes}

    before = digests({"audio": "a", "text": "t"})

    def changed(after):
        return {name for name in before if before[name] != after[name]}

    assert changed(digests({"audio": "a", "text": "t"}, seed=7)) == {"corpus"}
    assert changed(digests({"audio": "a", "text": "u"})) == {"train", "own"}
    assert changed(digests({"audio": "b", "text": "t"})) == {"features", "train", "own"}


def test_a_missing_part_is_named(build, tmp_path):
    asked = [config("v", storage=str(tmp_path))]
    write_parts(build(asked, PARTS), audio="a")
    with pytest.raises(ArtifactError, match=r"parts.json has no part \['text'\]: delete manifest"):
        build(asked, PARTS)


def test_a_pending_stage_checks_its_parts_as_soon_as_they_are_known(build, tmp_path):
    checked = []

    def refuse(config, inputs):
        checked.append((config.variant, inputs["corpus"].uri))
        raise ConfigError("no text can be learnt")

    stages = (
        *PARTS[:2],
        stage("train", "features", Input("corpus", parts=("text",)), check=refuse),
    )
    graph = build([config("v", storage=str(tmp_path))], stages)
    graph.check()
    assert checked == []
    write_parts(graph, audio="a", text="t")
    graph = build([config("v", storage=str(tmp_path))], stages)
    with pytest.raises(ConfigError, match="no text can be learnt"):
        graph.check()
    assert checked == [("v", nodes_of(graph, "v")["corpus"].artifact.uri)]
    nodes_of(graph, "v")["train"].artifact.finish({})
    build([config("v", storage=str(tmp_path))], stages).check()


def test_what_a_stage_lacks_is_said_before_anything_it_reads_is_there(build, tmp_path):
    def refuse(config):
        raise ConfigError(f"{config.variant} needs a package")

    stages = (*PARTS[:2], replace(stage("train", "features"), requires=refuse))
    with pytest.raises(ConfigError, match="v needs a package"):
        build([config("v", storage=str(tmp_path))], stages).check()


def test_the_seeds_of_a_variant_are_checked_once(build, tmp_path):
    checked = []
    stages = (
        PARTS[0],
        Stage(
            "train",
            1,
            lambda config: {"seed": config.training.seed},
            run,
            inputs=lambda *_: (Input("corpus", parts=("text",)),),
            check=lambda config, _inputs: checked.append(config.variant),
        ),
    )
    asked = [seeded(name, 0, 1, storage=str(tmp_path)) for name in ("v", "w")]
    write_parts(build(asked, stages), text="t")
    build(asked, stages).check()
    # Both variants have the same trainings, which the first is asked about.
    assert checked == ["v"]
    other = seeded("w", 0, 1, storage=str(tmp_path), quantizer=KMEANS)
    stages = (
        PARTS[0],
        replace(
            stages[1],
            settings=lambda config: {"kind": config.quantizer.kind, "seed": config.training.seed},
        ),
    )
    build([asked[0], other], stages).check()
    assert checked == ["v", "v", "w"]
