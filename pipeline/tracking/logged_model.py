"""A tokenizer's folder as a logged model that `mlflow.pyfunc.load_model` reads anywhere.

With it are stored the few lines that load it, the sources of this project that they import, and
the versions of all packages that it was made with, without a pickle.
"""

import logging
import math
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.storage.artifacts import Artifact
from pipeline.tokenizer.identity import TOKENIZER, tokenizer_digest
from pipeline.tracking.dependencies import Dependencies, constraints
from pipeline.tracking.mlflow_run import MlflowRun
from pipeline.tracking.run_name import RunName
from pipeline.tracking.spelling import spell_name, spell_tags

TOKENIZER_TAG = "pipeline.tokenizer"
_TYPE = "speech-tokenizer"
_READY = "READY"
_LOADER = Path(__file__).with_name("logged_tokenizer.py")
_COLUMN = "waveform"
_EXAMPLE_SAMPLES = 1600  # a tenth of a second


def log_tokenizer(run: MlflowRun, name: RunName, output: Artifact) -> None:
    """Store an output's tokenizer as the model of `run`, named after its variant, with the tags of both.

    A run that already has its tokenizer is not changed.
    """
    from mlflow.entities import LoggedModelOutput

    client, run_id = run.client, run.run_id
    outputs = client.get_run(run_id).outputs
    if outputs is not None and outputs.model_outputs:
        return
    variant = name.parent or name
    with output.read_folder(TOKENIZER) as folder:
        digest = tokenizer_digest(folder)
        tags = spell_tags({**variant.tags, **name.tags, TOKENIZER_TAG: digest})
        logged = client.create_logged_model(
            run.experiment_id,
            name=spell_name(f"{variant.name}-tokenizer", separators=""),
            source_run_id=run_id,
            tags=tags,
            model_type=_TYPE,
        )
        try:
            _upload(client, logged.model_id, run_id, folder, tags)
            client.finalize_logged_model(logged.model_id, _READY)
            # Last, so that a run never names an incomplete model.
            client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        except Exception:
            with suppress(Exception):  # the next attempt creates another
                client.delete_logged_model(logged.model_id)
            raise


def _upload(
    client: Any, model_id: str, run_id: str, folder: Path, metadata: dict[str, str]
) -> None:
    import mlflow.pyfunc
    from mlflow.models import Model

    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)  # it tells of every step
    dependencies = Dependencies.of(_LOADER)
    with tempfile.TemporaryDirectory() as scratch:
        pins = Path(scratch, "constraints.txt")
        pins.write_text("\n".join(constraints()), encoding="utf-8")
        mlflow.pyfunc.save_model(
            f"{scratch}/model",
            python_model=str(_LOADER),
            code_paths=[str(dependencies.copy_to(Path(scratch)))],
            artifacts={TOKENIZER: str(folder)},
            pip_requirements=[*dependencies.requirements, f"-c {pins}"],
            signature=_signature(),
            input_example=_example(),
            metadata=metadata,
            mlflow_model=Model(run_id=run_id, model_id=model_id),
        )
        client.log_model_artifacts(model_id, f"{scratch}/model")


def _signature() -> Any:
    """A table with one waveform a row in, a list of units for each out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    return ModelSignature(
        inputs=Schema([ColSpec(Array(DataType.double), _COLUMN)]),
        outputs=Schema([ColSpec(Array(DataType.long))]),
    )


def _example() -> list[dict[str, list[float]]]:
    """A tenth of a second of a tone."""
    tone = [round(0.1 * math.sin(index / 6), 4) for index in range(_EXAMPLE_SAMPLES)]
    return [{_COLUMN: tone}]
