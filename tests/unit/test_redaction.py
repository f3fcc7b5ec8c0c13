import re
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.redaction import HIDDEN, flatten, redact

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # noqa: S105 - the one of AWS's handbook
SIGNED = (
    "https://bucket.s3.amazonaws.com/a.flac?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    f"&X-Amz-Credential={KEY}%2F20261122%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20261122T000000Z"
    "&X-Amz-Security-Token=FwoGZXIvYXdzEBYaDH&X-Amz-Signature=0123abcd&part=3"
)


def test_nested_settings_become_dotted_names():
    settings = {"a": {"b": 1, "c": [1, 2], "d": None}, "phases": [{"epochs": 3}, {"epochs": 4}]}
    assert flatten(settings) == {
        "a.b": "1",
        "a.c": "[1, 2]",
        "a.d": "null",
        "phases.0.epochs": "3",
        "phases.1.epochs": "4",
    }


def test_two_settings_never_have_one_name():
    settings = {"a": {"b": 1, "b.c": 2, "": 3}, "a.b": 4, "": {"a": 5}, '"a.b"': 6}
    assert sorted(flatten(settings).values()) == ["1", "2", "3", "4", "5", "6"]
    assert flatten({"utterances": {"test#1": 5}}) == {"utterances.test#1": "5"}


def test_no_key_of_a_config_is_taken_for_a_secret():
    keys = re.findall(r"^\| `([\w.[\]]+)` \|", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)
    assert "token_asr.asr.dim" in keys
    for key in keys:
        assert flatten({key: 1}), key
        assert redact(f"--set {key}=value") == f"--set {key}=value"


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
        ("mysql://u:p@ss@h/db", "mysql://***@h/db"),
        ("postgresql+psycopg://u@h/db", "postgresql+psycopg://***@h/db"),
        ("cannot reach admin:hunter2@db:5432", "cannot reach ***@db:5432"),
        ("https://h/x?X-Amz-Signature=ab12&part=3", "https://h/x?X-Amz-Signature=***&part=3"),
        ("https://h/x?part=3&access_token=ab12", "https://h/x?part=3&access_token=***"),
        (f"the key {KEY} does not exist", "the key *** does not exist"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: ***"),
        (
            "{'Authorization': 'Bearer ab.cd-ef', 'Host': 'h'}",
            "{'Authorization': '***', 'Host': 'h'}",
        ),
        (
            f"authorization: AWS4-HMAC-SHA256 Credential={KEY}/x, Signature=ab\nHost: h",
            "authorization: ***\nHost: h",
        ),
        ("X-Amz-Security-Token: FwoGZXIv\n", "X-Amz-Security-Token: ***\n"),
        ("sent Bearer abcdefghijklmnop1234", "sent Bearer ***"),
        (f"AWS_SECRET_ACCESS_KEY={SECRET} make", "AWS_SECRET_ACCESS_KEY=*** make"),
        ('{"password": "hunter 2", "user": "u"}', '{"password": "***", "user": "u"}'),
        ("connect(password='hunter2', port=1)", "connect(password='***', port=1)"),
        ("db_token = hunter2", "db_token = ***"),
    ],
)
def test_secrets_go_from_texts(text, expected):
    assert redact(text) == expected
    assert redact(expected) == expected


def test_a_signed_address_keeps_only_what_is_no_secret():
    shown = redact(f"GET {SIGNED} failed")
    assert not any(secret in shown for secret in (KEY, "FwoGZXIvYXdzEBYaDH", "0123abcd"))
    assert "https://bucket.s3.amazonaws.com/a.flac?" in shown
    assert "part=3 failed" in shown


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/folder",
        "mail a@b",
        "num_tokens=5, tokens = 3, tokenizer=wavlm, keys=4",
        "sorted(rows, key=len)",
        "if token == 3: print(token)",
        "basic training of 12 epochs, bearer of news",
        "error at 12:30, see http://host:5000/#/experiments/1",
        "the password is wrong; the token has expired",
        "git@host:group/project",
    ],
)
def test_ordinary_texts_stay(text):
    assert redact(text) == text


def test_credentials_go_from_lists_of_uris():
    assert flatten({"roots": ["s3://u:hunter2@h/b"]}) == {"roots": '["s3://***@h/b"]'}


def test_secrets_of_the_environment_go_from_everything(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct-horse")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://u:p%40ssw0rd@h")
    monkeypatch.setenv("SHORT_TOKEN", "abc")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/home/u/token")
    text = f"{SECRET} and correct-horse and p@ssw0rd, abc in /home/u/token, correct-horses"
    assert redact(text) == "*** and *** and ***, abc in /home/u/token, correct-horses"


@settings(deadline=None)
@given(st.text(), st.text(), st.sampled_from([KEY, SIGNED, "u:p@h", "Authorization: x", "token=t"]))
def test_redaction_of_what_is_redacted_changes_nothing(before, after, secret):
    once = redact(before + secret + after)
    assert redact(once) == once


@settings(deadline=None)
@given(
    st.text(alphabet="ab:/@=?&*. \"'\n;-", max_size=40),
    st.sampled_from(["", "password", "token", "://", "Bearer ", "cookie"]),
    st.text(alphabet="ab:/@=?&*. \"'\n;-", max_size=40),
)
def test_redaction_of_nearly_secrets_is_idempotent_too(before, middle, after):
    once = redact(before + middle + after)
    assert redact(once) == once


@settings(deadline=None)
@given(st.lists(st.text(alphabet=string.ascii_letters + string.digits + "-_.,;!", min_size=1)))
def test_words_stay(words):
    text = " ".join(words)
    if not any(name in text.lower() for name in ("bearer", "basic", "akia", "asia")):
        assert redact(text) == text


@settings(deadline=None)
@given(
    st.text(alphabet=string.ascii_letters + string.digits, min_size=6, max_size=40),
    st.sampled_from(
        [
            "s3://user:{}@host/x",
            "x?X-Amz-Signature={}&y=1",
            "Authorization: Bearer {}",
            "db_password={}",
            '"secret": "{}"',
        ]
    ),
)
def test_no_secret_stays(secret, template):
    shown = redact(template.format(f"zq{secret}"))
    assert f"zq{secret}" not in shown
    assert HIDDEN in shown
