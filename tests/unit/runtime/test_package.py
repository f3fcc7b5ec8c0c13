"""Which files of a folder a job brings: no secrets, nothing ignored, nothing that Ray cannot pack."""

import os
from pathlib import Path
from zipfile import ZipFile

import pytest

from pipeline.config import ConfigError
from pipeline.runtime import package
from pipeline.runtime.package import Package

PEM = "-----BEGIN %sPRIVATE KEY-----\nMIIE\n"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder that is taken for the project's own, so that no packages come with it."""
    monkeypatch.setattr(package, "project_folder", lambda: tmp_path / "work")
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def write(folder: Path, *names: str, text: str = "x") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def packed(folder: Path, *allowed: str) -> Package:
    return Package.of(folder, None, allowed)


SECRETS = (
    *("secrets.yaml", "deep/er/Secrets.YAML", "credentials.json", ".env", ".env.local", "PROD.ENV"),
    *("cert.pem", "tls/server.key", "id_rsa", "id_rsa.old", "id_ed25519.pub", ".netrc"),
    *(".git-credentials", "kubeconfig", "conf/my-service-secrets.json", "gcp_credentials.json"),
    *("odd [1]/#!secret.txt", "secrets.yaml~", ".pypirc", "auth_token", "odd [1]/.env\t"),
)
SECRET_FOLDERS = {".aws": "credentials", "home/.SSH": "config", ".kube": "cache/x"}
PLAIN = {
    "tokens.txt",
    "tokenizer.json",
    "monkey.txt",
    "environment.yml",
    "keys.py",
    "data/token_ids",
}


def test_secrets_are_known_by_their_names_and_folders(folder):
    write(folder, *SECRETS, *PLAIN)
    write(folder, *(f"{secret}/{name}" for secret, name in SECRET_FOLDERS.items()))
    found = packed(folder)
    assert found.files.keys() == PLAIN
    assert set(found.secrets) == {*SECRETS, *SECRET_FOLDERS}
    assert packed(folder, ".kube").files.keys() == {*PLAIN, ".kube/cache/x"}


def test_a_secret_folder_is_not_looked_into(folder, monkeypatch):
    """Often nobody may."""
    write(folder, ".ssh/config", "home/.aws/config", "plain")
    listed = Path.iterdir

    def only_others(path):
        if path.name in SECRET_FOLDERS or path.name == ".ssh":
            raise PermissionError(path)
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", only_others)
    assert packed(folder).secrets == [".ssh", "home/.aws"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("deploy.txt", PEM % "OPENSSH "),
        ("robot.json", f'{{"type": "service_account", "private_key": "{PEM % ""}"}}'),
        ("aws.ini", f"[default]\naws_secret_access_key = {'a1/+' * 10}\n"),
        ("notes.md", f"my token: hf_{'aB3' * 11}c, nothing else\n"),
        ("push.sh", f"git push https://ghp_{'x1Y' * 12}@github.com/me/it\n"),
    ],
)
def test_secrets_are_known_by_what_is_in_them(folder, name, text):
    write(folder, name, text=text)
    write(folder, "public.txt", text="-----BEGIN PUBLIC KEY-----\nMIIE\n")
    found = packed(folder)
    assert list(found.files) == ["public.txt"]
    assert found.secrets == [name]
    assert packed(folder, name).files.keys() == {name, "public.txt"}


def test_secrets_are_known_by_where_a_link_leads(folder, tmp_path):
    write(tmp_path / "home", ".aws/credentials", ".netrc", "plain")
    for name, target in {"a.txt": ".netrc", "mine": ".aws", "plain.txt": "plain"}.items():
        (folder / name).symlink_to(tmp_path / "home" / target)
    (folder / "deep").mkdir()
    (folder / "deep" / "loop").symlink_to(folder)
    found = packed(folder)
    assert list(found.files) == ["plain.txt"]
    assert found.secrets == ["a.txt", "mine"]


def test_a_secret_that_is_allowed_is_sent_and_its_neighbours_are_not(folder):
    write(folder, ".env", ".aws/config", ".aws/credentials", "conf/secrets.yaml", "conf/a.key")
    found = packed(folder, ".env", ".aws/config", "conf")
    assert found.files.keys() == {".env", ".aws/config", "conf/secrets.yaml", "conf/a.key"}
    assert found.secrets == [".aws/credentials"]


def test_the_projects_packages_come_along_without_secrets(folder, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    write(elsewhere, "pipeline/__init__.py", "pipeline/deep/Secrets.yaml", "pipeline/id_rsa")
    monkeypatch.setattr(package, "project_folder", lambda: elsewhere)
    monkeypatch.setattr(package, "project_modules", lambda: [str(elsewhere / "pipeline")])
    write(folder, "mine.yaml")
    found = packed(folder)
    assert found.files.keys() == {"mine.yaml", "pipeline/__init__.py"}
    assert found.secrets == ["pipeline/deep/Secrets.yaml", "pipeline/id_rsa"]


def test_what_no_job_reads_is_left_out(folder):
    write(folder, "runs/x", ".git/config", "a.egg-info/x", "tests/x.py", "out/x", "data/runs/x")
    found = Package.of(folder, folder / "out")
    assert list(found.files) == ["data/runs/x"]


def test_ignore_files_count_from_their_own_folder(folder):
    write(folder, "data/.gitignore", text="/a\nb/\n*.tmp\n!kept.tmp\n")
    write(folder, "data/.rayignore", text="c?\n")
    names = ("a", "deep/a", "b/x", "deep/b/x", "y.tmp", "kept.tmp", "c1", "c/kept")
    write(folder / "data", *names)
    kept = {"data/deep/a", "data/kept.tmp", "data/c/kept"}
    assert packed(folder).files.keys() == {*kept, "data/.gitignore", "data/.rayignore"}


def test_a_name_that_is_not_utf_8_is_left_out(folder):
    names = (os.fsdecode(b"data/caf\xe9.txt"), os.fsdecode(b"d\xff/x"))
    write(folder, *names, "data/caf\u00e9.txt")
    found = packed(folder)
    assert list(found.files) == ["data/caf\u00e9.txt"]
    assert found.unnamed == [names[0], os.fsdecode(b"d\xff")]


def test_more_than_a_dashboard_takes_is_rejected_by_name(folder):
    write(folder, "data/large.wav", "a.yaml")
    os.truncate(folder / "data" / "large.wav", package.MAX_PACKAGE_BYTES)
    with pytest.raises(ConfigError, match=r"Largest: data 105 MB, a\.yaml 1 B"):
        packed(folder)
    write(folder, ".gitignore", text="*.wav\n")
    assert "a.yaml" in packed(folder).files


def test_the_archive_holds_what_is_listed_and_its_bytes_are_the_same_again(folder, tmp_path):
    write(folder, "b.txt", "a/c.txt", text="text")
    for name in ("one.zip", "two.zip"):
        packed(folder).write(tmp_path / name)
    assert ZipFile(tmp_path / "one.zip").namelist() == ["a/c.txt", "b.txt"]
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert packed(folder).num_bytes == 8
