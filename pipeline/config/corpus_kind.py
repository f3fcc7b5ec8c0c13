"""From the `kind` of a corpus to its adapter, and to the section of the config that it declares.

Adapters are imported by name, as stages are: the config knows none of them.
"""

import importlib
from typing import Annotated, Any

from pydantic import BeforeValidator, GetJsonSchemaHandler, SerializeAsAny
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from pipeline.config.corpus import CorpusSection
from pipeline.config.declaration import kinds_in, load_kind
from pipeline.config.section import ConfigError

KINDS = "pipeline.corpus.adapters"


def load_adapter(kind: str) -> Any:
    """The `pipeline.corpus.adapter.Adapter` of a kind; a name with a dot is a user's own module.

    Raises:
        ConfigError: there is no such module, or it declares no adapter.
    """
    adapter = importlib.import_module("pipeline.corpus.adapter").Adapter
    return load_kind(kind, KINDS, "ADAPTER", adapter, "corpus")


def _validate(values: Any) -> CorpusSection:
    if isinstance(values, CorpusSection):
        return values
    kind = values.get("kind") if isinstance(values, dict) else None
    if not isinstance(kind, str):
        raise ConfigError(f"set corpus.kind to one of {kinds_in(KINDS)}")
    section: CorpusSection = load_adapter(kind).section.model_validate(values)
    return section


class _OneOfAllKinds:
    """The JSON schema of `Corpus`: the section of any of the project's own kinds."""

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        sections = [load_adapter(kind).section for kind in kinds_in(KINDS)]
        return {"oneOf": [handler(section.__pydantic_core_schema__) for section in sections]}


Corpus = Annotated[SerializeAsAny[CorpusSection], BeforeValidator(_validate), _OneOfAllKinds()]
