import pytest

from pipeline.redaction import flatten, redact


def test_nested_settings_become_dotted_names():
    settings = {"a": {"b": 1, "c": [1, 2], "d": None}, "phases": [{"epochs": 3}, {"epochs": 4}]}
    assert flatten(settings) == {
        "a.b": "1",
        "a.c": "[1, 2]",
        "a.d": "null",
        "phases.0.epochs": "3",
        "phases.1.epochs": "4",
    }


def test_names_keep_only_what_a_tracker_takes():
    assert flatten({"utterances": {"test#1": 5}}) == {"utterances.test_1": "5"}


@pytest.mark.parametrize(
    "key",
    ["key", "api_key", "token", "auth.token", "apiToken", "db_password", "AWS_SECRET_ACCESS_KEY"],
)
def test_secrets_are_left_out(key):
    assert flatten({"storage": {key: "hunter2"}}) == {}


@pytest.mark.parametrize("key", ["num_tokens", "tokenizer", "monkey", "keyframes", "author"])
def test_names_that_only_look_secret_stay(key):
    assert flatten({key: 1}) == {key: "1"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://user:hunter2@host/bucket", "s3://***@host/bucket"),
        ("postgresql+psycopg://u@h/db", "postgresql+psycopg://***@h/db"),
        ("https://h/x?X-Amz-Signature=ab12&part=3", "https://h/x?X-Amz-Signature=***&part=3"),
        ("https://h/x?part=3&access_token=ab12", "https://h/x?part=3&access_token=***"),
        ("s3://bucket/folder", "s3://bucket/folder"),
        ("mail a@b", "mail a@b"),
    ],
)
def test_credentials_go_from_uris(text, expected):
    assert redact(text) == expected


def test_credentials_go_from_lists_of_uris():
    assert flatten({"roots": ["s3://u:hunter2@h/b"]}) == {"roots": '["s3://***@h/b"]'}
