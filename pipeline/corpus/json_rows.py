"""JSON Lines as typed rows, and the reason why a line is not one."""

import json
import math
from collections.abc import Iterator
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pipeline.audio.utterance import Reject
from pipeline.corpus.text_table import read_lines


def _no_nan(value: Any) -> Any:
    """Tools write NaN for a missing text, which would become the word `nan`."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no text")
    return value


Seconds = Annotated[float, Field(ge=0)]
# A speaker or an id may be written as a number.
Text = Annotated[str, Field(coerce_numbers_to_str=True), BeforeValidator(_no_nan)]


class Row(BaseModel):
    """Unknown keys are ignored."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


RowT = TypeVar("RowT", bound=Row)


def json_rows(row: type[RowT], content: bytes, name: str) -> Iterator[tuple[str, RowT | Reject]]:
    """Each line that is not blank, as a row or as a reject, with its source `name:number`."""
    require_unique_keys = json.JSONDecoder(object_pairs_hook=_unique).decode
    for line in read_lines(content, name):
        if isinstance(line, Reject):
            yield line.source, line
            continue
        try:
            parsed = row.model_validate_json(line.text)
            require_unique_keys(line.text)
        except ValidationError as error:
            yield line.source, Reject(None, line.source, f"broken line: {first_problem(error)}")
        except _RepeatedKeyError as error:
            yield line.source, Reject(None, line.source, f"broken line: {error}")
        else:
            yield line.source, parsed


class _RepeatedKeyError(ValueError):
    """Pydantic would take the last value."""


def _unique(pairs: list[tuple[str, Any]]) -> None:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise _RepeatedKeyError(f"{repeated}: the key is there twice")


def first_problem(error: ValidationError) -> str:
    """The first of the problems, with the key that has it."""
    problem = error.errors()[0]
    key = ".".join(map(str, problem["loc"]))
    message = problem["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message
