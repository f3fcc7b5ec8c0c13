"""From the kind of a corpus to its adapter, and every message a wrong kind gets."""

import importlib
import sys

import pytest

from pipeline.config import Config, ConfigError, Ssl
from pipeline.config.corpus import KINDS, load_adapter
from pipeline.config.declaration import kinds_in

OWN = """
from typing import Literal

from pipeline.config.corpus import RecordedCorpus
from pipeline.corpus.recorded import RecordedAdapter


class OwnCorpus(RecordedCorpus):
    kind: Literal["own.corpus"] = "own.corpus"
    table: str


ADAPTER = RecordedAdapter(OwnCorpus, lambda config: iter(()), lambda config: [], ("table",))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module `own.corpus`, to be overwritten by a test."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "corpus.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("own", "own.corpus"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    return tmp_path / "own" / "corpus.py"


def config(**corpus):
    return Config(variant="v", corpus=corpus, ssl=Ssl(model="m", revision="1"))


@pytest.mark.parametrize("kind", kinds_in(KINDS))
def test_every_file_of_the_folder_is_an_adapter_of_its_own_name(kind):
    assert load_adapter(kind).section.model_fields["kind"].default == kind


def test_a_config_survives_json_with_the_keys_of_its_kind(own):
    first = config(kind="own.corpus", table="t.csv")
    assert first.corpus.table == "t.csv"
    assert first.model_dump(mode="json")["corpus"]["table"] == "t.csv"
    assert Config.model_validate(first.model_dump(mode="json")) == first


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ({"kind": "kladi"}, r"no corpus.kind 'kladi'; did you mean 'kaldi'\?"),
        ({"kind": ".kaldi"}, r"no corpus.kind '.kaldi'"),
        ({"root": "data"}, r"set corpus.kind to one of \['an4', 'kaldi'"),
        ({"kind": "no.such"}, r"'no.such' cannot be imported \(No module named 'no'\)"),
        ({"kind": "..no.such"}, r"no corpus.kind '..no.such'"),
        ({"kind": "json.decoder"}, "'json.decoder' defines no corpus: it needs ADAPTER ="),
        ({"kind": "own.corpus"}, "Field required"),
    ],
)
def test_a_wrong_kind_is_one_clear_message(own, corpus, message):
    with pytest.raises(ValueError, match=message):
        config(**corpus)


def test_a_module_that_does_not_parse_is_one_clear_message(own):
    own.write_text("ADAPTER = (")
    with pytest.raises(ConfigError, match=r"cannot be imported .*never closed"):
        load_adapter("own.corpus")


def test_tokens_that_others_made_have_no_language_model():
    corpus = {"kind": "tokens", "tokens": "t.parquet"}
    assert not Config(variant="v", corpus=corpus).unit_lm.enabled
    with pytest.raises(ValueError, match=r"has units of others.*: set unit_lm\.enabled to false"):
        Config(variant="v", corpus=corpus, unit_lm={"enabled": True})
