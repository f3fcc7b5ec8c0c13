"""What made an output: the commit, the command and the versions."""

import json
import subprocess
import sys

import pytest

from pipeline.storage import provenance
from pipeline.storage.provenance import commit_of, shown_commit, tags, versions


@pytest.fixture
def checkout(tmp_path):
    """A git checkout with one tracked file, `code/a.py`; runs git in it."""

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text("1")
    git("add", ".")
    git("commit", "-qm", "one")
    return git


def test_the_commit_is_that_of_the_checkout_and_says_if_files_differ(checkout, tmp_path):
    commit = checkout("rev-parse", "HEAD")
    assert commit_of(tmp_path / "code") == {"commit": commit, "local_changes": False}
    (tmp_path / "untracked").write_text("")
    assert not commit_of(tmp_path / "code")["local_changes"]
    (tmp_path / "code" / "a.py").write_text("2")
    assert commit_of(tmp_path / "code") == {"commit": commit, "local_changes": True}


def test_code_that_no_checkout_tracks_has_no_commit(checkout, tmp_path):
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "a.py").write_text("1")
    assert commit_of(installed) == {}
    assert commit_of(tmp_path / "gone") == {}


def test_what_this_process_makes_tells_its_command_without_secrets(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["dkm", "run", "demo", "--set=api_key=hunter2-x"])
    told = provenance.provenance()
    assert told["command"] == "python -m pipeline run demo --set=api_key=***"
    assert told["versions"] == versions()


def test_versions_name_what_is_installed(monkeypatch):
    monkeypatch.setattr(provenance, "LIBRARIES", ("numpy", "no-such-library"))
    assert set(versions()) == {"python", "numpy"}


def test_mlflow_gets_tags_of_what_is_told():
    told = {"commit": "a" * 40, "local_changes": True, "command": "x", "versions": {"ray": "2"}}
    assert tags(told) == {
        "mlflow.source.git.commit": f"{'a' * 40} with local changes",
        "pipeline.command": "x",
        "pipeline.version.ray": "2",
    }
    assert tags({"seconds": 1.0}) == {}
    assert shown_commit({"commit": "b" * 40, "local_changes": False}) == "b" * 40


def test_a_job_tells_the_commit_that_it_was_submitted_from(monkeypatch):
    sent = {"commit": "c" * 40, "local_changes": True}
    monkeypatch.setenv(provenance.SENT_COMMIT, json.dumps(sent))
    monkeypatch.setattr(provenance, "own_commit", dict)
    assert sent.items() <= provenance.provenance().items()
    monkeypatch.delenv(provenance.SENT_COMMIT)
    assert "commit" not in provenance.provenance()
