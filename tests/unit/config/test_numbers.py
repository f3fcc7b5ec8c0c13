"""Every number of every section, given what is no sensible number."""

from collections.abc import Iterator

import pytest
import yaml

from pipeline.config import Config, ConfigError
from pipeline.config.corpus import KINDS
from pipeline.config.declaration import kinds_in
from pipeline.config.files import load

SCHEMA = Config.model_json_schema()
REQUIRED = {
    "an4": {"root": "r"},
    "kaldi": {"root": "r"},
    "lhotse": {"cuts": {"train": "a", "valid": "b", "test": "c"}},
    "librispeech": {"root": "r"},
    "ljspeech": {"root": "r"},
    "manifest": {"manifest": "m"},
    "synthetic": {},
    "tokens": {"tokens": "t"},
}
INSANE = [".inf", "-.inf", ".nan", "-1", str(2**64), str(-(2**64)), "9" * 40, "1e999", "x", "'1'"]
INSANE += ["true", "yes", "1:30", "1_000", "0b1", "2024-01-31", "[]", "{}"]
GAP = "@"  # in a value, for the number


def _resolve(schema):
    return SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _numbers(schema, key, template=GAP) -> Iterator[tuple[str, str]]:
    """Each number below `schema`: the key of `--set`, and its value with a gap for the number."""
    schema = _resolve(schema)
    for choice in schema.get("anyOf", ()):
        yield from _numbers(choice, key, template)
    if schema.get("type") in {"integer", "number"}:
        yield key, template
    elif schema.get("type") == "array":
        yield from _numbers(schema["items"], key, template.replace(GAP, f"[{GAP}]"))
    elif "additionalProperties" in schema and schema["additionalProperties"] is not False:
        yield from _numbers(
            schema["additionalProperties"], key, template.replace(GAP, f"{{a: {GAP}}}")
        )
    for name, inner in schema.get("properties", {}).items():
        if template == GAP:
            yield from _numbers(inner, f"{key}.{name}" if key else name, template)
        else:
            required = "".join(
                f"{other}: 1, " for other in schema.get("required", ()) if other != name
            )
            inside = template.replace(GAP, f"{{{required}{name}: {GAP}}}")
            yield from _numbers(inner, key, inside)


def _all() -> Iterator[tuple[str, str, str]]:
    for key, schema in SCHEMA["properties"].items():
        if key != "corpus":
            for number in _numbers(schema, key):
                yield "synthetic", *number
    for schema in SCHEMA["properties"]["corpus"]["oneOf"]:
        kind = _resolve(schema)["properties"]["kind"]["const"]
        for number in _numbers(schema, "corpus"):
            yield kind, *number


@pytest.fixture
def base(tmp_path):
    def write(kind):
        path = tmp_path / f"{kind}.yaml"
        corpus = {"kind": kind, **REQUIRED[kind]}
        path.write_text(
            yaml.safe_dump({"corpus": corpus, "ssl": {"model": "m", "revision": "abc"}})
        )
        return path

    return write


def test_the_numbers_of_all_sections_are_found():
    found = list(_all())
    assert {kind for kind, _, _ in found} == set(kinds_in(KINDS)) == set(REQUIRED)
    assert len(found) > 120
    keys = {key for _, key, _ in found}
    assert {"training.seeds", "features.sample_seed", "corpus.seed", "corpus.min_seconds"} <= keys
    assert ("synthetic", "vocoder.hifigan.resblock_dilations", "[[@]]") in found
    assert ("synthetic", "training.phases", "[{epochs: 1, warmup_steps: @}]") in found


@pytest.mark.parametrize(("kind", "key", "template"), list(_all()))
def test_a_number_that_makes_no_sense_is_refused(base, kind, key, template):
    path = base(kind)
    for number in INSANE:
        override = f"{key}={template.replace(GAP, number)}"
        with pytest.raises(ConfigError) as caught:
            load(path, [override])
        assert f"  --set {key}=" in str(caught.value), number
        assert f": {key}" in str(caught.value), number


@pytest.mark.parametrize(
    ("kind", "key"), [(k, key) for k, key, _ in _all() if key.endswith("seed")]
)
def test_all_seeds_have_one_range(base, kind, key):
    *sections, name = key.split(".")
    for seed in (0, 2**32 - 1):
        section = load(base(kind), [f"{key}={seed}"])
        for part in sections:
            section = getattr(section, part)
        assert getattr(section, name) == seed
    with pytest.raises(ConfigError, match=r"less than or equal to 4294967295"):
        load(base(kind), [f"{key}={2**32}"])
