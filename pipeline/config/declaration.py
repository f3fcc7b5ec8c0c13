"""What a module declares at its top under a fixed name, such as a stage file's STAGE."""

import difflib
import importlib
import pkgutil
from typing import TypeVar

from pipeline.config.section import ConfigError

Declared = TypeVar("Declared")


def load_declaration(module: str, name: str, of: type[Declared], role: str) -> Declared:
    """Import `module` and return its `name`, which must be an instance of `of`.

    Raises:
        ConfigError: the module cannot be imported, or declares no such thing; `role` says in the
            message what the module is for.
    """
    try:
        declared = getattr(importlib.import_module(module), name, None)
    except (Exception, SystemExit) as error:  # whatever the code of a user's module does
        raise ConfigError(
            f"the {role} module '{module}' cannot be imported ({error or type(error).__name__}): "
            f"name one that Python finds from this folder, such as 'my_package.my_{role}'"
        ) from error
    if not isinstance(declared, of):
        raise ConfigError(
            f"the {role} module '{module}' defines no {role}: it needs "
            f"{name} = {of.__module__}.{of.__qualname__}(...) at its top"
        )
    return declared


def kinds_in(package: str) -> list[str]:
    """The project's own kinds of something: the names of the modules in `package`."""
    path = importlib.import_module(package).__path__
    return sorted(module.name for module in pkgutil.iter_modules(path))


def load_kind(kind: str, package: str, name: str, of: type[Declared], role: str) -> Declared:
    """What a kind declares: one of `kinds_in` the package, or a module of a user's own.

    Raises:
        ConfigError: as `load_declaration`, or no kind has that name.
    """
    kinds = kinds_in(package)
    if kind in kinds:
        return load_declaration(f"{package}.{kind}", name, of, role)
    if "." in kind and all(part.isidentifier() for part in kind.split(".")):
        return load_declaration(kind, name, of, role)
    close = difflib.get_close_matches(kind, kinds, n=1)
    hint = f"; did you mean '{close[0]}'? Choose" if close else ": choose"
    raise ConfigError(
        f"there is no {role}.kind '{kind}'{hint} one of {kinds}, or name a module of your own with a "
        f"dot, such as 'my_package.my_{role}'"
    )
