"""A line of JSON as a typed row, and why a line is none."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Seconds = Annotated[float, Field(ge=0)]


class Row(BaseModel):
    """Keys of other tools are left alone; a speaker or an id may be written as a number."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, allow_inf_nan=False)


def why_broken(error: ValidationError) -> str:
    """The first problem of a line as the reason of a reject."""
    problem = error.errors()[0]
    place = ".".join(map(str, problem["loc"]))
    message = problem["msg"].removeprefix("Value error, ")
    return f"broken line: {f'{place}: ' if place else ''}{message}"
