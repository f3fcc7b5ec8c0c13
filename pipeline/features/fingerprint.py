"""What identifies an SSL model, so that changed weights are noticed."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from pipeline.config import Resynthesis, Ssl

CONFIG = "config.json"
PATTERNS = (CONFIG, "preprocessor_config.json", "*.safetensors", "*.bin")


def ssl_fingerprint(ssl: Ssl) -> str:
    """The hub revision, or SHA-256 over a folder's config and weights; and how it pads.

    Raises:
        FileNotFoundError: the folder holds no config or no weights.
    """
    model = _model(ssl)
    return model if ssl.pad == "window" else f"{model} pad={ssl.pad}"


def _model(ssl: Ssl) -> str:
    folder = Path(ssl.source)
    if not folder.is_dir():
        return f"{ssl.model}@{ssl.revision}"
    files = {path for pattern in PATTERNS for path in folder.glob(pattern)}
    has_weights = any(path.suffix in {".safetensors", ".bin"} for path in files)
    if not has_weights or not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} is not a transformers checkpoint: it needs config.json and "
            "model.safetensors; name a folder written by save_pretrained"
        )
    return hash_files(folder, files)


def hash_files(folder: Path, files: Iterable[Path]) -> str:
    """SHA-256 over the names, relative to `folder`, and the contents of files."""
    hasher = hashlib.sha256()
    for path in sorted(files):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        hasher.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return hasher.hexdigest()


def whisper_fingerprint(resynthesis: Resynthesis) -> str:
    """SHA-256 over all that the folder of a judging Whisper model consists of.

    Raises:
        FileNotFoundError: it is no such folder.
    """
    folder = Path(resynthesis.judging_folder or "")
    config = folder / CONFIG
    kind = json.loads(config.read_bytes()).get("model_type") if config.is_file() else None
    weights = set(folder.glob("*.safetensors"))
    if kind != "whisper" or not weights or not (folder / "tokenizer.json").is_file():
        raise FileNotFoundError(
            f"resynthesis.judge: {folder} is no Whisper model with its tokenizer: name a folder that "
            "holds config.json, tokenizer.json and model.safetensors, or a config's file (.yaml)"
        )
    return hash_files(folder, weights | set(folder.glob("*.json")) | set(folder.glob("*.txt")))
