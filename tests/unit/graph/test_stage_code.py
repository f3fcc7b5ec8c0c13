"""Stages whose code has changed since they made their outputs, as `plan` says it."""

from types import SimpleNamespace

import pytest

from pipeline.config import Config
from pipeline.corpus.adapters.synthetic import SyntheticCorpus
from pipeline.graph.graph import Node, load_stage
from pipeline.graph.stage_code import CODE, changes, code_of
from pipeline.source_code import SourceCode


def node(stage: str, quantizer: str = "dkm") -> Node:
    config = Config(
        variant="v",
        storage="runs",
        corpus=SyntheticCorpus(),
        ssl={"model": "some/model", "revision": "0" * 40},
        quantizer={"kind": quantizer, "layer_weights": "fixed"},
    )
    return Node(load_stage(f"tasks.{stage}"), stage, config, {"v": ()}, {}, {})


@pytest.mark.parametrize(
    ("stage", "runs", "does_not_run"),
    [
        ("prepare_corpus", "pipeline.corpus.adapters.synthetic", "pipeline.corpus.adapters.kaldi"),
        ("train_joint", "pipeline.quantizer.kinds.dkm", "pipeline.quantizer.kinds.kmeans"),
        ("fit_codebook", "pipeline.clustering.kmeans", "pipeline.quantizer.kinds.dkm"),
        ("tokenize_corpus", "pipeline.tokenizer.unit_tokenizer", "pipeline.training.loop"),
    ],
)
def test_the_code_of_a_stage_is_what_it_runs_under_its_config(stage, runs, does_not_run):
    code = code_of(node(stage), SourceCode())
    assert {f"tasks.{stage}", runs} <= code.keys()
    assert does_not_run not in code


def test_stages_share_a_line_and_what_few_of_them_run_is_named_first():
    changed = {
        "train_joint": ["pipeline.audio.decode", "pipeline.asr.model", "pipeline.asr.a", "tasks.t"],
        "fit_codebook": ["pipeline.audio.decode"],
        "tokenize_corpus": ["pipeline.audio.decode"],
        "phone_purity": [],
        "evaluate_asr": ["pipeline.asr.model", "pipeline.audio.decode"],
    }
    code = SimpleNamespace(changed=list)
    nodes = [(node(stage), {CODE: modules}) for stage, modules in changed.items()]
    old = (node("evaluate_resynthesis"), {"seconds": 1.0})  # made before manifests told the code
    assert changes([*nodes, old], code) == [
        "train_joint: pipeline/asr/a.py, tasks/t.py, pipeline/asr/model.py and 1 more",
        "fit_codebook, tokenize_corpus: pipeline/audio/decode.py",
        "evaluate_asr: pipeline/asr/model.py, pipeline/audio/decode.py",
    ]
