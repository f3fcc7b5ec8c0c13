"""The graph of a variant whose SSL model another variant's training has fine-tuned."""

import pytest
from support import save_tiny_ssl, tiny_config

from pipeline.config import Config
from pipeline.graph.graph import DEFAULT_STAGES, build
from pipeline.graph.touched import changed_configs, touched_stages

FINETUNED = {"phases": [{"epochs": 1, "ssl": "finetuned"}]}
KMEANS = {"kind": "kmeans", "layer_weights": "fixed"}


@pytest.fixture
def configs(tmp_path):
    """Makes kmeans, finetuned_kmeans and continuous_full, all with these seeds.

    `sections` are those of the last.
    """
    ssl = save_tiny_ssl(tmp_path / "ssl")
    (tmp_path / "manifest.jsonl").write_text("")
    own = {"storage": str(tmp_path), "corpus": {"manifest": str(tmp_path / "manifest.jsonl")}}

    def make(seeds=(0,), **sections) -> tuple[Config, Config, Config]:
        training = {**FINETUNED, "seeds": seeds}
        continuous = {"quantizer": {"kind": "none"}, "training": training, **sections}
        full = tiny_config(ssl, variant="continuous_full", **own, **continuous)
        units = {"quantizer": KMEANS, "training": {"seeds": seeds}}
        return (
            tiny_config(ssl, variant="kmeans", **own, **units),
            tiny_config(
                ssl,
                variant="finetuned_kmeans",
                **own,
                **units,
                ssl={"finetuned_by": full.model_dump()},
            ),
            full,
        )

    return make


def of(graph, variant):
    return {node.name: node for node in graph.nodes if variant in node.variants}


@pytest.mark.parametrize("order", [(1, 2), (2, 1), (1,)])
def test_a_member_reads_the_training_of_its_own_seed(configs, order):
    graph = build([configs(seeds=(3, 5))[index] for index in order])
    full, own = graph.members_of("continuous_full"), graph.members_of("finetuned_kmeans")
    assert [member.name for member in own] == [member.name for member in full]
    assert [member.name for member in own] == ["seed 3", "seed 5"]
    for finetuner, member in zip(full, own, strict=True):
        trained = finetuner.nodes["train_joint"]
        assert trained.label == f"train_joint[continuous_full, {finetuner.name}]"
        for name in ("extract_features/train", "extract_features/valid", "train_joint"):
            assert member.nodes[name].inputs["train_joint"] == trained.digest
    codebooks = {member.nodes["fit_codebook"].digest for member in own}
    assert len(codebooks) == 2


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0)])
def test_the_training_that_finetunes_is_one_node_whoever_is_run(configs, order):
    graph = build([configs()[index] for index in order])
    keys = [node.key for node in graph.nodes]
    assert len(set(keys)) == len(keys)
    assert all(
        set(node.inputs.items()) <= set(keys[: keys.index(node.key)]) for node in graph.nodes
    )
    [finetuned] = (
        n for n in graph.nodes if n.name == "train_joint" and n.config.training.finetunes_ssl
    )
    readers = [node.name for node in graph.nodes if finetuned.key in node.inputs.items()]
    assert finetuned.label == "train_joint[continuous_full]"
    assert set(readers) >= {"extract_features/train", "extract_features/valid", "train_joint"}


def test_each_variant_keeps_its_own_names(configs):
    graph = build(configs())
    kmeans, finetuned, full = (of(graph, each.variant) for each in configs())
    assert full["extract_features/train"] is kmeans["extract_features/train"]
    for name in ("extract_features/train", "fit_codebook", "train_joint", "tokenize_corpus/test"):
        assert finetuned[name].label == f"{name}[finetuned_kmeans]"
        assert finetuned[name].digest != kmeans[name].digest
    assert "evaluate_asr/test" in full
    alone = build(configs()[1:2])
    assert of(alone, "finetuned_kmeans").keys() == finetuned.keys()
    assert "evaluate_asr/test" not in of(alone, "continuous_full")


def test_a_digest_has_the_training_in_place_of_the_pretrained_model(configs):
    before, after = (
        of(build([configs(asr={"dim": dim})[1]]), "finetuned_kmeans") for dim in (16, 32)
    )
    assert before["prepare_corpus"].digest == after["prepare_corpus"].digest
    changed = [name for name in before if before[name].digest != after[name].digest]
    assert sorted(changed) == sorted(before.keys() - {"prepare_corpus", "bound_resynthesis/test"})
    for name in ("extract_features/valid", "train_joint"):
        assert "ssl" not in before[name].settings
        assert before[name].inputs["train_joint"] == before[name].reads["train_joint"]


def test_what_changes_no_result_of_the_training_changes_no_digest_here(configs):
    digests = [
        {node.key for node in build([configs(**sections)[1]]).nodes}
        for sections in ({}, {"asr_evaluation": {"beam_size": 3}}, {"cluster": {"max_failures": 9}})
    ]
    assert digests[0] == digests[1] == digests[2]


def test_the_key_touches_what_reads_the_ssl_model(configs):
    kmeans, finetuned, _ = configs()
    touched = touched_stages(kmeans, DEFAULT_STAGES)
    assert touched["ssl.finetuned_by"] == ("extract_features", "train_joint")
    assert {key for key, _ in changed_configs(finetuned)} == touched.keys()
