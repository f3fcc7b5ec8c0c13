"""JSON Lines as typed rows, and the reason why a line is not one."""

from collections.abc import Iterable, Iterator
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.audio.utterance import Reject

Seconds = Annotated[float, Field(ge=0)]


class Row(BaseModel):
    """Unknown keys are ignored; a speaker or an id may be written as a number."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, allow_inf_nan=False)


RowT = TypeVar("RowT", bound=Row)


def json_rows(
    row: type[RowT], lines: Iterable[bytes], name: str
) -> Iterator[tuple[str, RowT | Reject]]:
    """Each line that is not blank, as a row or as a reject, with its source `name:number`."""
    for number, line in enumerate(lines, start=1):
        source = f"{name}:{number}"
        if line.strip():
            try:
                yield source, row.model_validate_json(line)
            except ValidationError as error:
                yield source, Reject(None, source, f"broken line: {first_problem(error)}")


def first_problem(error: ValidationError) -> str:
    """The first of the problems, with the key that has it."""
    problem = error.errors()[0]
    key = ".".join(map(str, problem["loc"]))
    message = problem["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message
