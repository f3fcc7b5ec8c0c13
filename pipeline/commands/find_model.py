"""Trained models by the folder a user names: a stage's output, or the model's own folder in it."""

from collections.abc import Callable
from typing import TypeVar

from pipeline.config import ConfigError
from pipeline.storage.artifacts import MODEL_CONFIG, Artifact
from pipeline.storage.folders import Folder

Model = TypeVar("Model")


def find_model(uri: str, name: str) -> tuple[Artifact, str]:
    """Where the model `name` is: in a stage's output at `uri` (a folder or s3://…), or at `uri`.

    Returns:
        A folder, by an address that is valid on other machines too, and the model's name in it.

    Raises:
        ConfigError: there is no such model.
    """
    output, inner = Artifact(Folder.at(uri).uri), name
    if not output.exists(name):
        folder, inner = Folder.around(uri)
        output = Artifact(folder.uri)
    if not output.exists(f"{inner}/{MODEL_CONFIG}"):
        lacks = (
            "has no model" if Folder.at(uri).is_folder() else "is not a folder, so it has no model"
        )
        raise ConfigError(
            f"{uri} {lacks}: name a folder with config.json and model.safetensors, or the "
            f"output of a training stage, which has one in {name}/"
        )
    return output, inner


def load_model(uri: str, name: str, from_pretrained: Callable[..., Model]) -> Model:
    """The model `name` of a stage's output at `uri` (a folder or s3://…), or the one at `uri`.

    Raises:
        ConfigError: there is no such model.
    """
    output, inner = find_model(uri, name)
    try:
        with output.read_folder(inner) as path:
            return from_pretrained(path)
    except ValueError as error:
        raise ConfigError(f"{uri} cannot be used: {error}") from error
