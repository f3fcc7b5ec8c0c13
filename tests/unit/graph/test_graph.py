"""The graph: shared nodes, digests that reach as far as they must, and clear refusals."""

import pytest
from toy_graphs import CHAIN, KMEANS, config, labels, nodes_of, stage

from pipeline.config import ConfigError
from pipeline.graph.sources import Fingerprints, Source
from pipeline.graph.stage import Estimate


def test_variants_share_what_their_settings_agree_on(build):
    graph = build([config("kmeans", quantizer=KMEANS), config("dkm")])
    assert labels(graph) == [
        "corpus[kmeans +1]",
        "features[kmeans +1]",
        "train[kmeans]",
        "train[dkm]",
        "vocoder[kmeans]",
        "vocoder[dkm]",
        "evaluate[kmeans]",
        "evaluate[dkm]",
    ]
    kmeans, dkm = nodes_of(graph, "kmeans"), nodes_of(graph, "dkm")
    assert kmeans["features"] is dkm["features"]
    assert kmeans["features"].variants == {"kmeans": (), "dkm": ()}
    # Their own settings agree, but what they read does not.
    assert kmeans["evaluate"].settings == dkm["evaluate"].settings
    assert kmeans["evaluate"].digest != dkm["evaluate"].digest


def test_two_equal_variants_are_one_computation(build):
    graph = build([config("one"), config("two")])
    assert len(graph.nodes) == len(CHAIN)
    assert {tuple(node.variants) for node in graph.nodes} == {("one", "two")}


def test_nodes_come_after_their_inputs_however_the_modules_are_listed(build):
    graph = build([config("kmeans", quantizer=KMEANS), config("dkm")], stages=CHAIN[::-1])
    seen = set()
    for node in graph.nodes:
        assert set(node.inputs.items()) <= seen
        seen.add(node.key)
    assert len(seen) == 8


def test_the_digest_covers_settings_version_and_inputs(build):
    def digests(stages=CHAIN, **changes):
        graph = build([config("v", **changes)], stages)
        return {node.stage.name: node.digest for node in graph.nodes}

    before = digests()
    assert digests() == before
    assert digests(cluster={"training_workers": 7}) == before
    changed = digests(features={"layers": (1, 2)})
    assert {name for name in before if changed[name] != before[name]} == set(before) - {"corpus"}
    newer = (*CHAIN[:2], stage("train", "features", reads="quantizer", version=2), *CHAIN[3:])
    changed = digests(newer)
    assert {name for name in before if changed[name] != before[name]} == {
        "train",
        "vocoder",
        "evaluate",
    }


def test_a_stage_that_does_not_apply_is_left_out(build):
    graph = build([config("silent", vocoder={"enabled": False})])
    assert "vocoder" not in nodes_of(graph, "silent")
    assert len(graph.nodes) == 4


def test_reading_a_stage_that_does_not_apply_is_a_contradiction(build):
    stages = (*CHAIN, stage("listen", "vocoder"))
    with pytest.raises(
        ConfigError, match="variant 'v': stage 'listen' reads 'vocoder', which does not apply"
    ):
        build([config("v", vocoder={"enabled": False})], stages)


def test_reading_a_stage_that_is_not_there_names_the_cure(build):
    with pytest.raises(
        ConfigError, match=r"'evaluate' reads 'train', which is not a stage .* extra_stages"
    ):
        build([config("v")], (stage("evaluate", "train"),))


def test_stages_that_read_each_other_are_rejected(build):
    with pytest.raises(ConfigError, match="cycle: a -> b -> a"):
        build([config("v")], (stage("a", "b"), stage("b", "a")))


def test_only_takes_the_stages_it_names_and_what_they_read(build):
    graph = build([config("v")], only=("features",))
    assert labels(graph) == ["corpus[v]", "features[v]"]
    with pytest.raises(ConfigError, match="no stage is named tape; there are: corpus, features"):
        build([config("v")], only=("tape",))


def test_pending_is_what_has_no_manifest(build, tmp_path):
    graph = build([config("v", storage=str(tmp_path))])
    assert graph.pending() == graph.nodes
    whole = nodes_of(graph, "v")["corpus"].artifact
    assert whole.uri == f"{tmp_path}/corpus/{graph.nodes[0].digest}"
    whole.finish({})
    assert graph.pending() == graph.nodes[1:]


def test_a_node_tells_its_manifest_what_made_it(build):
    node = nodes_of(build([config("v")]), "v")["features"]
    assert node.description() == {
        "stage": "features",
        "split": "",
        "version": 1,
        "digest": node.digest,
        "variants": ["v"],
        "member": "",
        "settings": {"features": config("v").features.model_dump(mode="json")},
        "inputs": node.inputs,
        "reads": node.inputs,
    }


def test_an_estimate_sees_the_config_the_inputs_and_its_own_output(build):
    def estimate(config, _split, outputs):
        assert list(outputs) == ["corpus", "big"]
        return Estimate(bytes_written=config.codebook.num_units)

    stages = (CHAIN[0], stage("big", "corpus", estimate=estimate))
    node = nodes_of(build([config("v")], stages), "v")["big"]
    assert node.estimate() == Estimate(bytes_written=64)


def test_a_fingerprint_is_computed_once_for_all_variants_and_graphs(build):
    calls = []

    def fingerprint(section):
        calls.append(section)
        return "f"

    def sources(config):
        return {"files": Source(config.corpus, fingerprint)}

    stages = (stage("corpus", sources=sources), stage("features", sources=sources))
    once = Fingerprints()
    for _ in range(2):
        graph = build([config("one"), config("two")], stages, fingerprints=once)
    assert len(calls) == 1
    assert graph.nodes[0].settings == {"files": "f"}
