"""What every section of the config is made of, and the error of one that is wrong."""

import json
import re
from collections.abc import Collection
from typing import Annotated, Any, TypeVar

from fsspec import get_filesystem_class
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticKnownError

# What a 32-bit C integer holds, which many a library counts in.
MOST = 2**31 - 1

Share = Annotated[float, Field(ge=0, le=1)]
# All but everything: of what must not be dropped or masked altogether.
Part = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, le=1e9)]
NotNegative = Annotated[float, Field(ge=0, le=1e9)]
Rate = Annotated[float, Field(gt=0, le=10)]
# Eleven days are more audio than fits into any memory at once.
Seconds = Annotated[float, Field(gt=0, le=1e6)]
Count = Annotated[int, Field(ge=1, le=MOST)]
CountOrNone = Annotated[int, Field(ge=0, le=MOST)]
# Of a tensor, or the number of a model's layers.
Width = Annotated[int, Field(ge=1, le=65_536)]
Depth = Annotated[int, Field(ge=1, le=1000)]
Layer = Annotated[int, Field(ge=0, le=1000)]
# torch's generator for CPUs reads 32 bits and NumPy takes no negative number; so all seeds that are
# taken differ in what they draw.
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


# A quotient of these, an exponential of that, must be a number in 32 bits.
Temperature = Annotated[float, Field(ge=1e-6, le=1e6)]


def _refuse_other_types(value: Any) -> Any:
    """Python compares true and 1.0 as equal to 1, so a Literal alone would take them."""
    if type(value) is not int:
        raise PydanticKnownError("int_type")
    return value


def _require_text(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    if control := sorted(set(_CONTROL.findall(text))):
        raise ValueError(f"holds the control characters {control}")
    return text


def _require_address(text: str) -> str:
    """A path, or a URI whose scheme can be opened."""
    if text.startswith(("~", "$")):
        raise ValueError(f"'{text}' is not expanded in a config: write the whole path")
    scheme, has_scheme, path = text.partition("://")
    if _MISSING_SLASH.match(text) or (has_scheme and not path.strip("/")):
        raise ValueError(f"'{text}' is neither a path nor an address such as s3://bucket/prefix")
    if has_scheme and scheme != "s3":
        try:
            get_filesystem_class(scheme)
        except (ValueError, ImportError) as error:
            raise ValueError(
                f"'{text}' cannot be opened ({error}): name a path, or s3://bucket/prefix"
            ) from None
    return text


def _require_no_web_address(text: str) -> str:
    scheme = text.partition("://")[0]
    if scheme in {"http", "https"}:
        raise ValueError(
            f"'{text}' cannot be written: {scheme} addresses can only be read; name a folder, or "
            "s3://bucket/prefix"
        )
    return text


def _require_name(text: str) -> str:
    if not _NAME.fullmatch(text) or len(text.encode()) > _MOST_BYTES_OF_NAME:
        raise ValueError(
            f"{text[:_MOST_BYTES_OF_NAME]!r} cannot be part of a file's name: use letters, digits, "
            "spaces and any of . _ + = , ( ) ' -; a letter or digit first, no space or dot last, at "
            f"most {_MOST_BYTES_OF_NAME} bytes"
        )
    return text


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MISSING_SLASH = re.compile(r"\w{2,}:/(?!/)")
_NAME = re.compile(r"\w([\w ._+=,()'-]*[\w+=,()'-])?")
_MOST_BYTES_OF_NAME = 100  # a file system allows 255, and more is added

Exactly = BeforeValidator(_refuse_other_types)
"""Beside a Literal of numbers."""
Text = Annotated[str, AfterValidator(_require_text)]
Address = Annotated[Text, AfterValidator(_require_address)]
"""A path, or an address such as s3://bucket/prefix."""
Storage = Annotated[Address, AfterValidator(_require_no_web_address)]
"""An address at which outputs can be written."""
Name = Annotated[str, AfterValidator(_require_name)]
"""A variant or a split: files, metrics and runs are named after it."""


class ConfigError(ValueError):
    """A mistake in a config file or an override; the message says what, why and the cure."""


class Section(BaseModel):
    """A part of the config: unknown keys are errors, values never change, keys carry docstrings.

    Numbers are finite. What a file says must have the key's own type (`validate_json`).
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


UNLESS_DEFAULT = "in a digest unless it has its default"
"""Marks a key that came later than stored outputs, which its default leaves as they are."""


def settings_of(section: Section, leave_out: Collection[str] = ()) -> dict[str, Any]:
    """What a digest has of a section (JSON): all of its keys but some, and but `UNLESS_DEFAULT`."""
    settings = section.model_dump(mode="json", exclude=set(leave_out))
    for name in settings.keys() & type(section).model_fields.keys():
        field, value = type(section).model_fields[name], getattr(section, name)
        if UNLESS_DEFAULT in field.metadata and value == field.get_default():
            del settings[name]
        elif isinstance(value, Section):
            settings[name] = settings_of(value)
        elif isinstance(value, tuple) and value and isinstance(value[0], Section):
            settings[name] = [settings_of(each) for each in value]
    return settings


SectionT = TypeVar("SectionT", bound=Section)


def validate_json(section: type[SectionT], values: Any) -> SectionT:
    """Values of a file as a section; true is no number, and "1" and 1.0 are no integers.

    Raises:
        pydantic.ValidationError: they cannot be used.
    """
    return section.model_validate_json(json.dumps(values), strict=True)


def validate_part(section: type[SectionT], values: Any, info: ValidationInfo) -> SectionT:
    """What belongs to a larger config as a section, as strictly as that is read.

    Raises:
        pydantic.ValidationError: it cannot be used.
    """
    if info.mode == "json":
        return validate_json(section, values)
    return section.model_validate(values)
