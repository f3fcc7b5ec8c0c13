"""The seeds of a variant in the graph."""

from toy_graphs import CHAIN, KMEANS, labels, nodes_of, run, seeded

from pipeline.graph.stage import Input, Stage

# As the real stages: the training alone depends on the seed.
SEEDED = (
    *CHAIN[:2],
    Stage(
        "train",
        1,
        lambda config: {"kind": config.quantizer.kind, "seed": config.training.seed},
        run,
        inputs=lambda *_: (Input("features"),),
    ),
    *CHAIN[3:],
)


def test_every_seed_is_a_member_that_shares_what_no_seed_changes(build):
    graph = build([seeded("kmeans", 3, 1, quantizer=KMEANS), seeded("dkm", 3)], SEEDED)
    assert labels(graph) == [
        "corpus[kmeans +1]",
        "features[kmeans +1]",
        "train[kmeans, seed 3]",
        "train[kmeans, seed 1]",
        "train[dkm]",
        "vocoder[kmeans, seed 3]",
        "vocoder[dkm]",
        "evaluate[kmeans, seed 3]",
        "evaluate[kmeans, seed 1]",
        "evaluate[dkm]",
    ]
    first, second = graph.members_of("kmeans")
    assert (first.name, second.name) == ("seed 3", "seed 1")
    assert [each.config.training.seeds for each in (first, second)] == [(3,), (1,)]
    assert first.nodes["features"] is second.nodes["features"]
    assert first.nodes["features"].member == ""
    assert second.nodes["train"].member == "seed 1"
    assert "vocoder" not in second.nodes
    [only] = graph.members_of("dkm")
    assert only.name == only.nodes["train"].member == ""


def test_a_seed_has_the_same_digests_alone_and_among_others(build):
    alone = nodes_of(build([seeded("v", 1)], SEEDED), "v")
    among = build([seeded("v", 0, 1)], SEEDED).members_of("v")[1]
    assert among.nodes.keys() == alone.keys() - {"vocoder"}
    assert all(node.digest == alone[name].digest for name, node in among.nodes.items())


def test_a_manifest_names_variants_and_the_member(build):
    told = [node.description() for node in build([seeded("v", 0, 1)], SEEDED).nodes]
    assert {tuple(each["variants"]) for each in told} == {("v",)}
    assert [(each["stage"], each["member"]) for each in told[1:4]] == [
        ("features", ""),
        ("train", "seed 0"),
        ("train", "seed 1"),
    ]
