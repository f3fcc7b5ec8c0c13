"""Trained models by the folder a user names: a stage's output, or the model's own folder in it."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from pipeline.config import ConfigError
from pipeline.storage.artifacts import MANIFEST, MODEL_CONFIG, Artifact
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


def require_one_model(uri: str, others: Sequence[str], name: str) -> None:
    """Refuse models among what the model at `uri` is to read: a shell makes several names of a `*`.

    Args:
        uri: as for `find_model`.
        others: files and folders.
        name: of the models in their stages' outputs.

    Raises:
        ConfigError: names all models, and the variants that they are of.
    """
    models = [other for other in others if _holds_model(other, name)]
    if models:
        named = ", ".join(map(_with_variants, (uri, *models)))
        raise ConfigError(
            f"{len(models) + 1} models were given, and the command takes one: {named}. Name one, then what "
            "it is to read"
        )


def _holds_model(uri: str, name: str) -> bool:
    """Whether it is a stage's output with this model, or the model's own folder in one."""
    _, last = Folder.around(uri)
    inner = MODEL_CONFIG if last == name else f"{name}/{MODEL_CONFIG}"
    return Artifact(Folder.at(uri).uri).exists(inner)


def _with_variants(uri: str) -> str:
    """The name with that of the variants whose model it is, if that is known."""
    output = Artifact(Folder.at(uri).uri)
    if not output.exists(MANIFEST):
        return uri
    return f"{uri} ({', '.join(output.read_json(MANIFEST).get('variants', ()))})"
