"""Which files look like secrets: by their name in any case, by what a link leads to, by their content."""

import re
from fnmatch import translate
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
SECRET_NAMES = re.compile("|".join(map(translate, NAMES)))
OLD_COPY = re.compile(r"(~|\.(bak|copy|old|orig|save|swp|tmp|\d+))+$")

# Private keys in text, as a Google service account's key file holds one too; AWS's secret keys; tokens
# of Hugging Face and GitHub.
SECRET_TEXTS = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY( BLOCK)?-----"
    rb"|(?i:aws_secret_access_key)[\"']?\s*[=:]\s*[\"']?[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])"
    rb"|\b(?:hf_[A-Za-z0-9]{34}|gh[opsru]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})\b"
)
SEARCHED_BYTES = 1 << 20


def looks_secret(path: Path, folder: Path) -> bool:
    """Whether the path of a file below `folder`, or what it leads to, has a name of a secret."""
    target, root = path.resolve(), folder.resolve()
    below = target.relative_to(root) if target.is_relative_to(root) else target
    return any(map(_is_secret_name, (*path.relative_to(folder).parts, *below.parts)))


def holds_secret(path: Path) -> bool:
    """Whether there is a key or a token in the file's first part."""
    with path.open("rb") as file:
        return SECRET_TEXTS.search(file.read(SEARCHED_BYTES)) is not None


def _is_secret_name(name: str) -> bool:
    return SECRET_NAMES.fullmatch(OLD_COPY.sub("", name.lower())) is not None
