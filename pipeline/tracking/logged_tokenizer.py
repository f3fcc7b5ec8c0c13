"""How MLflow loads a logged tokenizer: this file is stored beside its folder, without a pickle.

MLflow runs the file when the model is saved and when it is loaded. What it imports of this project
is stored with it.
"""

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class LoggedTokenizer(PythonModel):
    """Waveforms to units through MLflow's generic model interface."""

    def load_context(self, context: Any) -> None:
        from pipeline.tokenizer.unit_tokenizer import UnitTokenizer

        self.tokenizer = UnitTokenizer.from_pretrained(context.artifacts["tokenizer"])

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[list[int]]:
        """The units of each waveform (mono, 16 kHz, in [-1, 1]), a row of the column `waveform`."""
        del context, params
        units = self.tokenizer.encode(list(model_input["waveform"]))
        return [units_T.tolist() for units_T in units]


set_model(LoggedTokenizer())
