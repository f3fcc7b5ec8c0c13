"""What MLflow shows of a variant: how often it is trained, and on whom it is tested."""

import pytest

from pipeline.config import Config
from pipeline.tracking.description import describe


@pytest.mark.parametrize(
    ("seeds", "folds", "said"),
    [
        ([3], [], "seed 3"),
        ([0, 1], [], "seeds 0, 1"),
        ([0], "speaker", "seed 0; left out in turn: each speaker"),
        ([0], ["ann", "bob"], "seed 0; left out in turn: ann and bob"),
        ([0, 1], ["ann"], "seeds 0, 1; left out in turn: ann"),
    ],
)
def test_seeds_and_folds_are_said(seeds, folds, said):
    config = Config(
        variant="v",
        corpus={"kind": "manifest", "manifest": "m.jsonl", "folds": folds},
        ssl={"model": "some/model", "revision": "a"},
        training={"seeds": seeds},
    )
    line = next(line for line in describe(config).splitlines() if line.startswith("- training: "))
    assert line == f"- training: 8 epochs with the SSL model frozen; {said}"


@pytest.mark.parametrize(
    ("token_asr", "said"),
    [
        ({}, "- ASR from stored de-duplicated units, 500 subwords (bpe): 48 epochs; seed 0"),
        (
            {"deduplicate": False, "subwords": {"kind": "none"}},
            "- ASR from stored units: 48 epochs; seed 0",
        ),
    ],
)
def test_of_a_corpus_of_tokens_nothing_is_said_of_an_ssl_model(token_asr, said):
    config = Config(variant="v", corpus={"kind": "tokens", "tokens": "t"}, token_asr=token_asr)
    text = describe(config)
    assert text.startswith("**v** on the tokens corpus.\n")
    assert said in text.splitlines()
    assert not any(word in text for word in ("SSL model `", "quantizer", "- training"))
