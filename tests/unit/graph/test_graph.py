"""The graph: shared nodes, digests that reach as far as they must, and clear refusals."""

import sys
import textwrap
from dataclasses import replace

import pytest

from pipeline.config import Config, ConfigError
from pipeline.config.corpus import Splits
from pipeline.corpus.adapters.synthetic import SyntheticCorpus
from pipeline.graph import graph as stage_graph
from pipeline.graph.sources import Fingerprints, Source
from pipeline.graph.stage import Estimate, Input, Stage
from pipeline.storage.artifacts import ArtifactError


def config(variant: str, storage: str = "runs", **changes) -> Config:
    return Config(
        variant=variant,
        storage=storage,
        corpus=SyntheticCorpus(),
        ssl={"model": "some/model", "revision": "0" * 40},
        **changes,
    )


def run(context):
    return {}


def as_input(read: str | Input) -> Input:
    return read if isinstance(read, Input) else Input(read)


def stage(name: str, *inputs: str, reads=None, **more) -> Stage:
    def settings(config: Config) -> dict:
        return {} if reads is None else {reads: getattr(config, reads).model_dump(mode="json")}

    return Stage(
        name,
        more.pop("version", 1),
        settings,
        run,
        inputs=lambda *_: tuple(map(as_input, inputs)),
        **more,
    )


CHAIN = (
    stage("corpus", reads="corpus"),
    stage("features", "corpus", reads="features"),
    stage("train", "features", reads="quantizer"),
    stage("vocoder", "train", applies=lambda config: config.vocoder.enabled),
    stage("evaluate", "train"),
)
KMEANS = {"kind": "kmeans", "layer_weights": "fixed"}


@pytest.fixture
def build(monkeypatch):
    def make(configs, stages=CHAIN, **options):
        monkeypatch.setattr(stage_graph, "load_stage", {one.name: one for one in stages}.get)
        return stage_graph.build(configs, default_stages=[one.name for one in stages], **options)

    return make


def nodes_of(graph: stage_graph.Graph, variant: str) -> dict[str, stage_graph.Node]:
    """Those of a variant that has one member."""
    [member] = graph.members_of(variant)
    return member.nodes


def labels(graph: stage_graph.Graph) -> list[str]:
    return [node.label for node in graph.nodes]


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


def seeded(variant: str, *seeds: int, **changes) -> Config:
    return config(variant, training={"seeds": seeds}, **changes)


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


def module(folder, name: str, text: str) -> str:
    (folder / f"{name}.py").write_text(textwrap.dedent(text))
    return name


@pytest.fixture
def importable(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("own_stage", "no_stage", "broken_stage", "twin_stage"):
        sys.modules.pop(name, None)


OWN = """
    from pipeline.graph.stage import Stage

    STAGE = Stage("own", 1, lambda config: {}, lambda context: {})
"""


def test_a_users_own_stage_is_one_more_module(importable):
    module(importable, "own_stage", OWN)
    graph = stage_graph.build([config("v", extra_stages=("own_stage",))], default_stages=())
    assert labels(graph) == ["own[v]"]


def test_a_stage_named_twice_is_rejected_unless_it_is_the_same_module(importable):
    module(importable, "own_stage", OWN)
    module(importable, "twin_stage", OWN)
    same = config("v", extra_stages=("own_stage",))
    assert len(stage_graph.build([same], default_stages=("own_stage",)).nodes) == 1
    with pytest.raises(ConfigError, match="'own_stage' names its stage 'own', as another does"):
        stage_graph.build([same], default_stages=("twin_stage",))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gone_stage", None, "'gone_stage' cannot be imported .*No module named 'gone_stage'"),
        ("no_stage", "STAGE = 'train'", "'no_stage' defines no stage"),
        ("broken_stage", "import nonesuch", "'broken_stage' cannot be imported .*nonesuch"),
    ],
)
def test_a_module_without_a_stage_is_a_clear_error(importable, name, text, message):
    if text is not None:
        module(importable, name, text)
    with pytest.raises(ConfigError, match=message):
        stage_graph.load_stage(name)


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


SPLITS = (
    stage("tokens", "train", splits=lambda config: config.corpus.splits.names),
    stage("train"),
    stage("vocoder", Input("tokens", "train")),
)


def test_a_stage_with_splits_has_a_node_for_each(build):
    graph = build([config("v")], SPLITS)
    assert labels(graph) == [
        "train[v]",
        "tokens/train[v]",
        "tokens/valid[v]",
        "tokens/test[v]",
        "vocoder[v]",
    ]
    nodes = nodes_of(graph, "v")
    assert len({node.digest for node in nodes.values()}) == 5
    assert nodes["vocoder"].inputs == {"tokens/train": nodes["tokens/train"].digest}
    assert nodes["tokens/test"].artifact.uri.endswith(f"/tokens/{nodes['tokens/test'].digest}")
    artifacts = nodes["vocoder"].input_artifacts
    assert artifacts == {"tokens/train": nodes["tokens/train"].artifact}


def test_a_further_split_changes_no_other(build):
    splits = Splits(test=("test", "other"))
    corpus = SyntheticCorpus().model_copy(update={"splits": splits})
    more = config("v").model_copy(update={"corpus": corpus})
    before, after = (nodes_of(build([asked], SPLITS), "v") for asked in (config("v"), more))
    assert after.keys() - before.keys() == {"tokens/other"}
    assert {name: after[name].digest for name in before} == {n: before[n].digest for n in before}


def test_reading_a_split_that_is_not_there_is_rejected(build):
    stages = (*SPLITS, stage("listen", Input("tokens", "dev")), stage("see", "tokens"))
    with pytest.raises(ConfigError, match=r"'listen' reads 'tokens/dev', but 'tokens' has the spl"):
        build([config("v")], stages[:4])
    with pytest.raises(ConfigError, match=r"'see' reads 'tokens', but 'tokens' has the splits"):
        build([config("v")], (*SPLITS, stages[4]))


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
