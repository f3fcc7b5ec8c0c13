"""Which files look like secrets: by their name in any case, by what a link leads to, by their content."""

import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

# In lower case. A folder of that name is a secret with everything in it.
NAMES = (
    # of the shell and of Python's tools
    *(".env*", "*.env", ".netrc", "_netrc", ".npmrc", ".pypirc", ".*_history"),
    *(".htpasswd", ".pgpass", ".my.cnf", ".git-credentials", "passwd", "password*.*"),
    # keys, certificates with keys, and stores of keys
    *("*.pem", "*.key", "*.ppk", "*.p8", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx"),
    *(".ssh", ".gnupg", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*"),
    # of clouds and services
    *(".aws", ".azure", ".boto", ".s3cfg", ".databrickscfg", ".docker", ".dockercfg", "gcloud"),
    *("*accesskeys.csv", "rootkey.csv", "rclone.conf", "*.tfstate", "*.tfvars", ".vault-token"),
    *("service-account*.json", "service_account*.json", "serviceaccount*.json", "kaggle.json"),
    # of Ray and Kubernetes
    *(".kube", "kubeconfig*", "*.kubeconfig", ".ray"),
    # by the word
    *("token", "token.txt", "*.token", "auth_token", "*api_key*", "*api-key*", "*apikey*"),
    *("secret", "secrets", "secret.*", "secrets.*", ".secret*"),
    *("credential", "credentials", "credential.*", "credentials.*", ".credential*"),
    *(
        f"*{word}*.{extension}"
        for word in ("secret", "credential", "creds")
        for extension in ("cfg", "conf", "csv", "ini", "json", "toml", "txt", "yaml", "yml")
    ),
)
OLD_COPY = re.compile(r"(~|\.(bak|copy|old|orig|save|swp|tmp|\d+))+$")

# Private keys in text, as a Google service account's key file holds one too; AWS's secret keys; tokens
# of Hugging Face and GitHub.
SECRET_TEXTS = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY( BLOCK)?-----"
    rb"|(?i:aws_secret_access_key)[\"']?\s*[=:]\s*[\"']?[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])"
    rb"|\b(?:hf_[A-Za-z0-9]{34}|gh[opsru]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})\b"
)
SEARCHED_BYTES = 1 << 20


def secrets_among(folder: Path, names: Sequence[str], allowed: Sequence[str]) -> list[str]:
    """Which files of `folder`, or folders that hold them, look like secrets.

    Args:
        folder: the names' own.
        names: of files, relative to it.
        allowed: files and folders that may be sent all the same.
    """

    @cache
    def is_secret(name: str) -> bool:
        return _looks_secret(folder, name)

    found = (_secret_part(name, allowed, is_secret) for name in names)
    return sorted({part for part in found if part is not None})


def holds_secret(path: Path) -> bool:
    """Whether there is a key or a token in the file's first part."""
    with path.open("rb") as file:
        return SECRET_TEXTS.search(file.read(SEARCHED_BYTES)) is not None


def is_within(name: str, folder: str) -> bool:
    """Whether `name` is `folder` or lies below it."""
    return folder in {".", name} or name.startswith(f"{folder}/")


def _secret_part(name: str, allowed: Sequence[str], is_secret: Callable[[str], bool]) -> str | None:
    """The first of the folders of `name`, or the file itself, that looks secret; None if none does."""
    if any(is_within(name, each) for each in allowed):
        return None
    part = next(filter(is_secret, _parts(name)), None)
    # Where a file below a secret folder is allowed, its neighbours are left out one by one.
    inside = part is not None and any(is_within(each, part) for each in allowed)
    return name if inside else part


def _parts(name: str) -> Iterator[str]:
    """`a`, `a/b` and `a/b/c` of `a/b/c`."""
    words = name.split("/")
    return ("/".join(words[:count]) for count in range(1, len(words) + 1))


def _looks_secret(folder: Path, name: str) -> bool:
    path = folder / name
    if _is_secret_name(path.name):
        return True
    if not path.is_symlink():
        return False
    target = path.resolve()
    below = target.relative_to(folder) if target.is_relative_to(folder) else target
    return any(map(_is_secret_name, below.parts))


def _is_secret_name(name: str) -> bool:
    plain = OLD_COPY.sub("", name.lower())
    return any(fnmatchcase(plain, pattern) for pattern in NAMES)
