"""What every section of the config is made of, and the error of one that is wrong."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class ConfigError(ValueError):
    """A mistake in a config file or an override; the message says what, why and the cure."""


class Section(BaseModel):
    """A part of the config: unknown keys are errors, values never change, keys carry docstrings."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
