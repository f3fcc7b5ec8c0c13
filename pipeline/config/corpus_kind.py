"""From the `kind` of a corpus to its adapter, and to the section of the config that it declares.

Adapters are imported by name, as stages are: the config knows none of them.
"""

import difflib
import importlib
import pkgutil
from typing import Annotated, Any

from pydantic import BeforeValidator, GetJsonSchemaHandler, SerializeAsAny
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from pipeline.config.corpus import CorpusSection
from pipeline.config.errors import ConfigError

_ADAPTERS = "pipeline.corpus.adapters"


def corpus_kinds() -> list[str]:
    """The kinds that come with the project: the names of the files in pipeline/corpus/adapters/."""
    package = importlib.import_module(_ADAPTERS)
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def load_adapter(kind: str) -> Any:
    """The `ADAPTER` of one of `corpus_kinds`, or of a module such as "my_package.my_corpus".

    Raises:
        ConfigError: there is no such module, or it defines no adapter.
    """
    is_module = "." in kind.lstrip(".")
    if not is_module and kind not in corpus_kinds():
        close = difflib.get_close_matches(kind, corpus_kinds(), n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise ConfigError(
            f"unknown kind '{kind}': {hint}The kinds are {', '.join(corpus_kinds())}; an adapter of "
            "your own is named by its module, such as 'my_package.my_corpus'"
        )
    try:
        module = importlib.import_module(kind if is_module else f"{_ADAPTERS}.{kind}")
    except (ImportError, SyntaxError, TypeError) as error:
        raise ConfigError(
            f"the corpus module '{kind}' cannot be imported ({error}): name one that Python finds "
            "from this folder, such as 'my_package.my_corpus'"
        ) from error
    adapter = getattr(module, "ADAPTER", None)
    section = getattr(adapter, "section", None)
    if not (isinstance(section, type) and issubclass(section, CorpusSection)):
        raise ConfigError(
            f"the corpus module '{kind}' defines no adapter: it needs "
            "ADAPTER = pipeline.corpus.recorded.RecordedAdapter(...) at its top"
        )
    return adapter


def _validate(value: Any) -> CorpusSection:
    if isinstance(value, CorpusSection):
        return value
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str):
        raise ConfigError(f"set corpus.kind to one of {', '.join(corpus_kinds())}")
    section: CorpusSection = load_adapter(kind).section.model_validate(value)
    return section


class _OneOfAllKinds:
    """The JSON schema of `Corpus`: the section of any kind that comes with the project."""

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        sections = [load_adapter(kind).section for kind in corpus_kinds()]
        return {"oneOf": [handler(section.__pydantic_core_schema__) for section in sections]}


Corpus = Annotated[SerializeAsAny[CorpusSection], BeforeValidator(_validate), _OneOfAllKinds()]
