"""A tokenizer's folder as a logged model that `mlflow.pyfunc.load_model` reads."""

import logging
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.storage.artifacts import Artifact

_TYPE = "speech-tokenizer"
_READY = "READY"
_CODE = Path(__file__).with_name("logged_tokenizer.py")


def log_tokenizer(client: Any, experiment_id: str, run_id: str, uri: str) -> None:
    """Store the folder at `uri` and the few lines of code that load it, without a pickle.

    A run that already has its tokenizer is not changed.
    """
    from mlflow.entities import LoggedModelOutput

    outputs = client.get_run(run_id).outputs
    if outputs is not None and outputs.model_outputs:
        return
    logged = client.create_logged_model(
        experiment_id, name="tokenizer", source_run_id=run_id, model_type=_TYPE
    )
    try:
        _upload(client, logged.model_id, run_id, uri)
        client.finalize_logged_model(logged.model_id, _READY)
        # Last, so that a run never names an incomplete model.
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    except Exception:
        with suppress(Exception):  # the next attempt creates another
            client.delete_logged_model(logged.model_id)
        raise


def _upload(client: Any, model_id: str, run_id: str, uri: str) -> None:
    import mlflow.pyfunc
    from mlflow.models import Model

    # It warns that it cannot infer a signature from a list of arrays.
    logging.getLogger("mlflow.pyfunc").setLevel(logging.ERROR)
    storage, _, name = uri.rpartition("/")
    with (
        Artifact(storage).read_folder(name) as folder,
        tempfile.TemporaryDirectory() as scratch,
    ):
        mlflow.pyfunc.save_model(
            f"{scratch}/model",
            python_model=str(_CODE),
            artifacts={"tokenizer": str(folder)},
            pip_requirements=["numpy", "safetensors", "torch", "torchaudio", "transformers"],
            mlflow_model=Model(run_id=run_id, model_id=model_id),
        )
        client.log_model_artifacts(model_id, f"{scratch}/model")
