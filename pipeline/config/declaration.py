"""What a module declares at its top under a fixed name, such as a stage file's STAGE."""

import importlib
from typing import TypeVar

from pipeline.config.errors import ConfigError

Declared = TypeVar("Declared")


def load_declaration(module: str, name: str, of: type[Declared], role: str) -> Declared:
    """Import `module` and return its `name`, which must be an instance of `of`.

    Raises:
        ConfigError: the module cannot be imported, or declares no such thing; `role` says in the
            message what the module is for.
    """
    try:
        declared = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise ConfigError(
            f"the {role} module '{module}' cannot be imported ({error}): name one that Python "
            f"finds from this folder, such as 'my_package.my_{role}'"
        ) from error
    if not isinstance(declared, of):
        raise ConfigError(
            f"the {role} module '{module}' defines no {role}: it needs "
            f"{name} = {of.__module__}.{of.__qualname__}(...) at its top"
        )
    return declared
