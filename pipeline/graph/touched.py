"""Which stages a key of the config touches: found by changing the key and asking every stage."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pipeline.config import Config, digest
from pipeline.config.members import members
from pipeline.config.section import Section
from pipeline.graph.graph import load_stage
from pipeline.graph.stage import Stage


def touched_stages(config: Config, modules: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """For each key of `config`, the names of the stages of `modules` that it touches itself.

    What reads their output follows, as far as its content changes. Keys of the sections in a list
    are named once: `training.phases.epochs`. A `kind` that chooses its section is left out. The config
    that `ssl.finetuned_by` names is one value.
    """
    stages = [load_stage(module) for module in modules]
    before = {stage.name: _all_depend(stage, config) for stage in stages}
    return {
        key: tuple(
            stage.name for stage in stages if _all_depend(stage, other) != before[stage.name]
        )
        for key, other in changed_configs(config)
    }


def changed_configs(section: Any, config: Config | None = None) -> Iterator[tuple[str, Any]]:
    """Each key of `section`, a part of `config` or that itself, with a copy in which it alone is another.

    The copies are not validated: a changed value need not be one that a run accepts.
    """
    config = config or section
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        first = value[0] if isinstance(value, tuple) and value else value
        if Config in _leaves(field.annotation):  # of another variant; this one will do
            yield name, section.model_copy(update={name: config})
        elif isinstance(first, Section):
            for key, inner in changed_configs(first, config):
                new = (inner, *value[1:]) if isinstance(value, tuple) else inner
                yield f"{name}.{key}", section.model_copy(update={name: new})
        elif name != "kind" or len(get_args(field.annotation)) > 1:
            other = _another(value, field.annotation)
            yield name, section.model_copy(update={name: other})


def _another(value: Any, annotation: Any) -> Any:
    """Another value of the same kind."""
    options = [each for each in _leaves(annotation) if isinstance(each, str) and each != value]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return options[0] if options else f"{value}x"
    if isinstance(value, tuple):
        return (*value, _another(value[-1], annotation)) if value else ("x",)
    if isinstance(value, Mapping):
        return {name: _another(each, None) for name, each in value.items()} or {"x": ("x",)}
    return options[0] if options else "x" if str in _leaves(annotation) else 1


def _leaves(annotation: Any) -> list[Any]:
    """The types and the literal values that an annotation is made of."""
    inner = get_args(annotation)
    return [leaf for each in inner for leaf in _leaves(each)] if inner else [annotation]


def _all_depend(stage: Stage, config: Config) -> set[str]:
    """What a stage takes from the config for each of its outputs that differ."""
    return {_depends(stage, member) for member in members(config)} - {""}


def _depends(stage: Stage, config: Config) -> str:
    """A digest of all that a stage itself takes from the config."""
    if not stage.applies_to(config):
        return ""
    splits = stage.splits(config)
    inputs = [[repr(each) for each in stage.inputs(config, split)] for split in splits]
    sources = {
        name: source.section.model_dump(mode="json")
        for name, source in stage.sources(config).items()
    }
    return digest([stage.settings(config), sources, splits, inputs])
