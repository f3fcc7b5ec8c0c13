"""A line of JSON as a typed row, and the reason why a line is not one."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Seconds = Annotated[float, Field(ge=0)]


class Row(BaseModel):
    """Unknown keys are ignored; a speaker or an id may be written as a number."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, allow_inf_nan=False)


def why_broken(error: ValidationError) -> str:
    """The first problem of a line as the reason of a reject."""
    problem = error.errors()[0]
    key = ".".join(map(str, problem["loc"]))
    message = problem["msg"].removeprefix("Value error, ")
    return f"broken line: {f'{key}: ' if key else ''}{message}"
