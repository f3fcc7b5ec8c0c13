"""How MLflow loads a logged tokenizer: this file is stored beside its folder, without a pickle.

MLflow runs the file when the model is saved and when it is loaded; loading needs this package.
"""

from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class LoggedTokenizer(PythonModel):
    """Waveforms to units through MLflow's generic model interface."""

    def load_context(self, context: Any) -> None:
        from pipeline.tokenizer.unit_tokenizer import UnitTokenizer

        self.tokenizer = UnitTokenizer.from_pretrained(context.artifacts["tokenizer"])

    def predict(
        self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> list[list[int]]:
        """The units of each waveform (mono, 16 kHz, in [-1, 1]): one (S), several (B x S) or a list."""
        del context, params
        single = isinstance(model_input, np.ndarray) and model_input.ndim == 1
        waveforms = [model_input] if single else model_input
        units = self.tokenizer.encode([np.asarray(wave, dtype=np.float32) for wave in waveforms])
        return [units_T.tolist() for units_T in units]


set_model(LoggedTokenizer())
