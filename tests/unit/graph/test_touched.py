"""Each key of the config, changed once: which digests are others, in the graph of all stages."""

from dataclasses import replace

import pytest
from support import tiny_config, tone_utterances, write_corpus

from pipeline.config.digests import digest
from pipeline.graph.graph import DEFAULT_STAGES, build
from pipeline.graph.sources import Fingerprints
from pipeline.graph.touched import changed_configs, touched_stages

# Keys that give other nodes, and not only other digests.
OTHER_NODES = {
    "extra_stages",
    "training.seeds",
    "training.speeds",
    "ssl.finetuned_by",
    "resynthesis.judge",
    "token_asr.enabled",
    "unit_lm.enabled",
}


class BySection(Fingerprints):
    """Takes a source for what its section says, so that no corpus or model need be there."""

    def of(self, source):
        return digest(source.section.model_dump(mode="json"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A config, and what its corpus contains, however it is asked for."""
    folder = tmp_path_factory.mktemp("touched")
    splits = ("train", "valid", "test")
    utterances = [one for split in splits for one in tone_utterances(folder, split, 1)]
    enabled = {"enabled": True}
    sections = dict.fromkeys(("vocoder", "token_asr", "unit_lm"), enabled)
    sections["resynthesis"] = {"judge": "whisper"}
    sections["resynthesis_loss"] = {"weight": 1.0}
    sections["storage"] = str(folder / "runs")
    (folder / "ssl").mkdir()
    return tiny_config(folder / "ssl", **sections), utterances


def graph_of(config, utterances):
    """The graph when its corpus is complete."""
    [corpus] = build([config], ["prepare_corpus"], fingerprints=BySection()).nodes
    if not corpus.artifact.is_complete():
        write_corpus(corpus.artifact, utterances).finish({})
    return build([config], fingerprints=BySection())


def digests(graph):
    return {node.name: node.digest for node in graph.nodes}


def followers(graph, touched):
    """The nodes of the touched stages, and all that read them. A corpus counts by its content."""
    names = {node.name for node in graph.nodes if node.stage.name in touched}
    for node in graph.nodes:  # each after its inputs
        if names & (node.inputs.keys() - {"prepare_corpus"}):
            names.add(node.name)
    return names


def test_a_changed_key_changes_the_digests_of_the_stages_it_touches_and_of_their_readers(prepared):
    config, utterances = prepared
    before = graph_of(config, utterances)
    touched = touched_stages(config, DEFAULT_STAGES)
    for key, changed in changed_configs(config):
        if key.startswith("corpus.splits") or key in OTHER_NODES:
            continue
        old, new = digests(before), digests(graph_of(changed, utterances))
        names = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
        assert names == followers(before, touched[key]), key


FIRST = {
    "corpus": "prepare_corpus",
    "codebook": "fit_codebook",
    "quantizer": "train_joint",
    "asr": "train_joint",
    "training": "train_joint",
    "resynthesis_loss": "train_joint",
    "token_asr": "train_token_asr",
    "unit_lm": "train_unit_lm",
    "purity": "phone_purity",
    "resynthesis": "evaluate_resynthesis",
    "resynthesis.language": "judge_resynthesis",
    "resynthesis.measures": "judge_resynthesis",
}
MEANS = {
    "features.batch_seconds",
    "features.compile",
    "asr_evaluation.batch_seconds",
    *(
        f"training.{key}"
        for key in ("gradient_checkpointing", "compile", "checkpoint_steps", "log_steps")
    ),
    "training.keep_checkpoints",
    "vocoder.checkpoint_steps",
    "vocoder.log_steps",
    "vocoder.example_steps",
    "unit_lm.training.checkpoint_steps",
    "unit_lm.training.log_steps",
}


def test_keys_touch_the_stage_of_their_section_and_means_touch_nothing(prepared):
    touched = touched_stages(prepared[0], DEFAULT_STAGES)
    for key, stages in touched.items():
        section = key.partition(".")[0]
        if key.startswith("vocoder.hifigan."):
            assert stages == (), key  # the other generator
        elif (
            section in {"variant", "storage", "tracking", "cluster", "extra_stages", "pretraining"}
            or key in MEANS
        ):
            assert stages == (), key
        elif not key.startswith("corpus.splits"):
            assert stages, key
            first = FIRST.get(key, FIRST.get(section))
            assert first in {None, *stages[:1]} or key in OTHER_NODES, key
    assert touched["training.seeds"] == ("train_joint", "train_token_asr")
    assert touched["training.speeds"] == (
        "extract_features",
        "train_joint",
        "tokenize_corpus",
        "train_token_asr",
    )
    assert touched["training.batch_seconds"] == ("train_joint", "train_token_asr")
    assert touched["training.phases.epochs"] == touched["asr.dim"] == ("train_joint",)
    assert touched["token_asr.asr.dim"] == ("train_token_asr",)
    assert touched["corpus.alignments"] == ("prepare_corpus",)
    assert touched["asr_evaluation.beam_size"] == ("evaluate_asr", "evaluate_resynthesis")
    assert touched["features.layers"] == ("extract_features", "train_joint")


def test_a_further_test_split_is_computed_alone_and_alignments_touch_purity_alone(prepared):
    config, utterances = prepared
    before = digests(graph_of(config, utterances))
    splits = config.corpus.splits.model_copy(update={"test": ("test", "other")})
    more = config.model_copy(update={"corpus": config.corpus.model_copy(update={"splits": splits})})
    others = [replace(utterances[0], split="other", utt_id="other-0")]
    after = digests(graph_of(more, [*utterances, *others]))
    assert {name for name in before if after[name] != before[name]} == {"prepare_corpus"}
    stages = ("tokenize_corpus", "evaluate_asr", "phone_purity", "evaluate_resynthesis")
    stages += ("evaluate_unit_lm", "judge_resynthesis", "bound_resynthesis")
    assert after.keys() - before.keys() == {f"{stage}/other" for stage in stages}

    aligned = config.model_copy(
        update={"corpus": config.corpus.model_copy(update={"alignments": "ali"})}
    )
    bare = [replace(each, alignment=None) for each in utterances]
    after = digests(graph_of(aligned, bare))
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"prepare_corpus", "phone_purity/test"}


def test_other_speeds_add_splits_and_leave_recordings_and_codebook(prepared):
    config, utterances = prepared
    before = digests(graph_of(config, utterances))
    training = config.training.model_copy(update={"speeds": (0.9, 1.0, 1.1)})
    after = digests(graph_of(config.model_copy(update={"training": training}), utterances))
    stages = ("extract_features", "tokenize_corpus")
    copies = {f"{stage}/train_sp{speed}" for stage in stages for speed in ("0.9", "1.1")}
    assert after.keys() - before.keys() == copies
    assert len({after[copy] for copy in copies}) == 4
    kept = {"prepare_corpus", "extract_features/train", "extract_features/valid", "fit_codebook"}
    kept |= {"bound_resynthesis/test"}
    assert {name for name in before if before[name] == after[name]} == kept
