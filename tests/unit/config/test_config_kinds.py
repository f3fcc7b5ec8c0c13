"""A corpus of another kind on top of a shipped one."""

import pytest

from pipeline.config import ConfigError
from pipeline.config.files import load

AN4 = "extends: [an4.yaml, variants/kmeans.yaml]\n"
MANIFEST = ["corpus.kind=manifest", "corpus.manifest=m.jsonl"]


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text):
        (tmp_path / "mine.yaml").write_text(text)
        return "mine.yaml"

    return write


@pytest.mark.parametrize(
    "overrides", [MANIFEST, MANIFEST[::-1], ["corpus={kind: manifest, manifest: m.jsonl}"]]
)
def test_it_keeps_what_every_kind_has_and_leaves_behind_what_the_former_alone_has(write, overrides):
    limits = "corpus: {max_seconds: 9.0, splits: {test: [kept_aside]}}\n"
    corpus = load(write(AN4 + limits), overrides).corpus
    assert (corpus.kind, corpus.manifest) == ("manifest", "m.jsonl")
    assert (corpus.max_seconds, corpus.splits.test) == (9.0, ("kept_aside",))
    assert not {"root", "held_out"} & corpus.model_dump().keys()


def test_a_file_may_change_the_kind_of_the_one_that_it_extends(write):
    corpus = load(write(AN4 + "corpus: {kind: manifest, manifest: m.jsonl}\n")).corpus
    assert (corpus.kind, corpus.manifest) == ("manifest", "m.jsonl")


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        (
            "{kind: manifest, manifest: m.jsonl, root: r}",
            r"mine\.yaml:2: corpus\.root: unknown key",
        ),
        ("{kind: manifest}", r"mine\.yaml:2: corpus\.manifest: not set, and there is no default"),
        ("{kind: manifst}", r"no corpus\.kind 'manifst'; did you mean 'manifest'"),
        ("{rooot: r}", r"corpus\.rooot: unknown key; did you mean 'root'"),
    ],
)
def test_mistakes_are_still_mistakes(write, corpus, message):
    with pytest.raises(ConfigError, match=message):
        load(write(f"{AN4}corpus: {corpus}\n"))


def test_a_key_that_no_kind_has_is_not_forgotten_with_the_kind(write):
    with pytest.raises(ConfigError, match=r"mine\.yaml:2: corpus\.rooot: unknown key"):
        load(write(f"{AN4}corpus: {{rooot: r}}\n"), MANIFEST)


def test_a_quantizer_of_another_kind_leaves_the_keys_of_a_module_behind(
    write, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_kinds").mkdir()
    (tmp_path / "my_kinds" / "deep.py").write_text(
        "from pipeline.config.quantizer import Quantizer, QuantizerKind\n"
        "class Deep(Quantizer):\n"
        '    """Of several layers."""\n'
        "    depth: int = 1\n"
        "QUANTIZER = QuantizerKind(build=lambda section, codebook: None, section=Deep)\n"
    )
    mine = "quantizer: {kind: my_kinds.deep, depth: 3, tau_end: 0.2}\n"
    path = write(f"extends: demo.yaml\n{mine}")
    assert load(path).quantizer.depth == 3
    quantizer = load(path, ["quantizer.kind=dkm"]).quantizer
    assert (quantizer.kind, quantizer.tau_end) == ("dkm", 0.2)
