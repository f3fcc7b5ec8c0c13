"""Trained models by the folder a user names: a stage's output, or the model's own folder in it."""

from collections.abc import Callable
from typing import TypeVar

from pipeline.artifacts import Artifact
from pipeline.config import ConfigError

Model = TypeVar("Model")


def load_model(uri: str, name: str, from_pretrained: Callable[..., Model]) -> Model:
    """The model `name` of a stage's output at `uri` (a folder or s3://…), or the one at `uri`.

    Raises:
        ConfigError: there is no such model.
    """
    folder, _, leaf = uri.rstrip("/").rpartition("/")
    output, inner = Artifact(uri.rstrip("/")), name
    if not output.exists(name) and folder and leaf:
        output, inner = Artifact(folder), leaf
    if not output.exists(f"{inner}/config.json"):
        raise ConfigError(
            f"{uri} holds no model: name a folder with config.json and model.safetensors, or the "
            f"output of a training stage, which holds one in {name}/"
        )
    try:
        with output.read_folder(inner) as path:
            return from_pretrained(path)
    except ValueError as error:
        raise ConfigError(f"{uri} cannot be used: {error}") from error
