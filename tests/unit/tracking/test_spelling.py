"""Names and texts as MLflow takes them: by its own rules, and no two alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.store.artifact.artifact_repo import verify_artifact_path
from mlflow.utils.validation import (
    MAX_PARAM_VAL_LENGTH,
    MAX_TAG_VAL_LENGTH,
    _validate_logged_model_name,
    _validate_metric,
    _validate_param,
    _validate_tag,
)

from pipeline.tracking.spelling import (
    MAX_PARAM_CHARACTERS,
    MAX_TAG_CHARACTERS,
    spell_name,
    spell_text,
)

HOSTILE = [
    "test clean+é.wer",
    "test clean_é.wer",
    "test clean-é.wer",
    "a:b.wer",
    "(a).wer",
    "../up.wer",
    "..up.wer",
    "a/../b.wer",
    "/root.wer",
    "//root.wer",
    "a//b.wer",
    "a/./b.wer",
    "a/.wer/",
    ".",
    "..",
    "/",
    "",
    " ",
    "a.wer ",
    "a.wer\n",
    "e\u0301.wer",
    "日本語.wer",
    "a\0.wer",
    "a\udce9.wer",
    "x" * 250 + ".wer",
    "x" * 251 + ".wer",
    "é" * 200 + ".wer",
    "50%#1?.wer",
    "a'b\"c`.wer",
    "C:\\temp.wer",
]
# Where the rules differ, separators count most.
names = st.text(st.sampled_from("ab0.-_/ :é+\n\0\udc80'") | st.characters(), max_size=30)


def accepts(name):
    """Whether MLflow does, in all the places where names go."""
    _validate_metric(name, 1.0, 1, 1)
    _validate_param(name, "x")
    _validate_tag(name, "x")
    verify_artifact_path(name)
    return all(len(part.encode()) <= 255 for part in name.split("/"))


@pytest.mark.parametrize(
    "name", ["wer", "test-clean.wer", "a/b c.x_y", "日本語.wer", ".hidden", "0"]
)
def test_what_mlflow_takes_stays_as_it_is(name):
    assert spell_name(name) == name


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("test clean+é.wer", "test clean_é-fdb65e025f11.wer"),
        ("../up.wer", "_/up-6b79eaa28bdb.wer"),
        ("/audio/a:b.wav", "_/audio/a_b-6c55016fdcfd.wav"),
        ("", "_-e3b0c44298fc"),
    ],
)
def test_what_it_refuses_stays_readable_and_keeps_its_suffix(name, spelled):
    assert spell_name(name) == spelled


def test_hostile_names_are_accepted_and_stay_apart():
    assert all(accepts(spell_name(name)) for name in HOSTILE)
    assert len({spell_name(name) for name in HOSTILE}) == len(HOSTILE)


@given(names)
def test_every_name_is_accepted_and_never_that_of_another(name):
    spelled = spell_name(name)
    assert accepts(spelled)
    if spelled != name:
        assert spell_name(spelled) != spelled  # whoever is really called so is called otherwise
        assert spelled.rpartition("/")[2] != ""


@given(names, names)
def test_two_names_never_become_one(one, other):
    assert (spell_name(one) == spell_name(other)) == (one == other)


@given(names)
def test_a_model_can_be_named_after_a_variant(name):
    _validate_logged_model_name(spell_name(name, separators=""))


def test_long_texts_say_that_they_are_cut_and_stay_apart():
    assert (MAX_PARAM_CHARACTERS, MAX_TAG_CHARACTERS) == (MAX_PARAM_VAL_LENGTH, MAX_TAG_VAL_LENGTH)
    assert spell_text("x" * 6000, 6000) == "x" * 6000
    cut = spell_text("x" * 6001, 6000)
    assert len(cut) == 6000
    assert cut.startswith("xxxx")
    assert "x… (6001 characters, SHA-256 " in cut
    assert cut != spell_text("x" * 6000 + "y", 6000)


def test_texts_keep_what_databases_store_and_show_the_rest_escaped():
    assert spell_text("é 日本\n", 100) == "é 日本\n"
    assert spell_text("a\0b\udce9", 100) == "a\\x00b\\udce9"
