"""YAML 1.2 with places: what is read, and what is refused with file, line and key."""

import json
import math
import time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pipeline.config import ConfigError
from pipeline.config.yaml_file import MOST_BYTES, Node, read_mapping, read_value, write_yaml


def read(text):
    return read_value(text, lambda line: f"f.yaml:{line}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("+3", 3),
        ("0", 0),
        ("0x10", 16),
        ("0o10", 8),
        ("1e5", 1e5),
        ("1.5E-3", 1.5e-3),
        (".5", 0.5),
        ("1.", 1.0),
        ("007.5", 7.5),
        ("-.inf", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("Null", None),
        # YAML 1.1 takes these for other things than texts.
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("n", "n"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("0b11", "0b11"),
        ("2024-01-31", "2024-01-31"),
        ("=", "="),
        ("'010'", "010"),
        ('"true"', "true"),
        ("٣", "٣"),  # a digit, but none of YAML's
    ],
)
def test_a_scalar_is_what_yaml_1_2_says(text, value):
    found = read(text).value
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_is_a_float():
    assert math.isnan(read(".nan").value)


def test_every_value_knows_the_line_of_its_key():
    node = read("a:\n  b:\n    - 1\n    - c: 2\nd: |\n  text\n")
    assert node.plain() == {"a": {"b": [1, {"c": 2}]}, "d": "text\n"}
    assert node.value["a"].place == "f.yaml:1"
    assert node.value["a"].value["b"].place == "f.yaml:2"
    assert node.value["a"].value["b"].value[1].place == "f.yaml:4"
    assert node.value["d"].place == "f.yaml:5"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", r"^f\.yaml:3: a: this key stands in f\.yaml:1 already: keep one"),
        ("a:\n  b: 1\n  'b': 2", r"^f\.yaml:3: a\.b: this key stands in f\.yaml:2"),
        ("a: {b: 1, b: 2}", r"^f\.yaml:1: a\.b: this key stands in f\.yaml:1"),
        ("a:\n- b: 1\n  b: 2", r"^f\.yaml:3: a\.0\.b: this key"),
        ("a: 010", r"^f\.yaml:1: a: 010 is 10 to one YAML reader and an octal number to another"),
        ("a: -007", r"-007 is 7 to one"),
        ("a: 00", r"00 is 0 to one"),
        ("b: &x 1\na: *x", r"^f\.yaml:2: a: the alias \*x is not supported"),
        ("a: &x [*x]", r"the alias \*x"),
        (
            "\na: !!python/object/apply:os.system [ls]",
            r"^f\.yaml:2: a: the tag .*os\.system is not",
        ),
        ("a: !!int '3'", "the tag tag:yaml.org,2002:int is not supported"),
        ("a: ! 3", "the tag ! is not supported"),
        ("<<: {a: 1}", "merge key '<<' is not supported: use `extends`"),
        ("a: 1\n1: b", r"^f\.yaml:2: a key is a name, got the number 1: put it in quotes"),
        ("null: b", "a key is a name, got null"),
        ("? \n: b", "a key is a name, got null"),
        ("true: b", "a key is a name, got true"),
        ("a: {1.5: b}", r"^f\.yaml:1: a: a key is a name, got the number 1\.5"),
        ("? [a]\n: b", "a key is a name, got a list"),
        ("? {a: 1}\n: b", "a key is a name, got a mapping"),
        ("a: 1\n---\nb: 2", r"^f\.yaml:2: a second document starts here"),
        ("--- a\n--- b\n", "a second document"),
        ("a:\n\tb: 1", r"^f\.yaml:2: not readable as YAML: .*indent with spaces"),
        ("a: [1", "^f.yaml:1: not readable as YAML"),
        ("a: 'b\n", "not readable as YAML"),
        ("a: b: c", r"^f\.yaml:1: not readable as YAML: mapping values are not allowed here"),
        ("%YAML 3.0\n---\na: 1", "not readable as YAML"),
        ("\n\na: \x07", r"^f\.yaml:3: not readable as YAML: the character U\+0007 is not allowed"),
        ("a: \udcff", r"the character U\+DCFF"),
        ('a: "\\ud800"', r"^f\.yaml:1: a: a text must not hold .* half a surrogate pair"),
        ('a: "\\0"', "a text must not hold a zero byte"),
        ('\na: "\\UFFFFFFFF"', r"^f\.yaml:2: not readable as YAML: Python int too large"),
        ('a: "\\U00110000"', "not readable as YAML: chr"),
        ("a: " + "9" * 5000, "a number of 5000 digits"),
        ("a: " + "[" * 10_000, "more than 16 levels deep"),
        ("- " * 10_000, "more than 16 levels deep"),
        ("a: " + "{b: " * 10_000, "more than 16 levels deep"),
        ("? " * 10_000, "more than 16 levels deep"),
        ("", "f.yaml:1: there is nothing in it"),
        ("# a comment\n", "there is nothing in it"),
    ],
)
def test_what_could_be_misread_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        read(text)


@given(st.text(alphabet="ab:-[]{}#&*!|>'\"%@`?,\\ \n\t01.eEx~<_uU", max_size=60))
def test_any_text_is_a_value_or_one_error(text):
    try:
        read(text).plain()
    except ConfigError as error:
        assert str(error).startswith("f.yaml:")  # noqa: PT017 - most texts raise none


def test_a_mapping_merges_key_by_key_and_any_other_value_wins():
    first, second = read("a: {b: 1, c: 2}\nd: [1]"), read("a: {c: 3}\nd: [2]")
    merged = first.merge(Node(second.value, "other"))
    assert merged.plain() == {"a": {"b": 1, "c": 3}, "d": [2]}
    assert read("a: 1").merge(read("a: {b: 1}")).plain() == {"a": {"b": 1}}
    assert read("a: {b: 1}").merge(read("a: null")).plain() == {"a": None}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    )
)
@example(["1e5", "0o10", "010", "1_000", "yes", "~", "1.", ".inf", "0x1", "1:30", "", "#"])
@example({"\x85": "a\x85"})
def test_what_is_written_reads_back_as_itself(value):
    assume("\\u0000" not in json.dumps(value))
    assume("<<" not in json.dumps(value))
    assert read(write_yaml([value])).plain() == value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\nb: \xff\n", r"f\.yaml:2: not readable as YAML: byte 8 is not UTF-8"),
        ("a: 1".encode("utf-16"), r"f\.yaml:1: .*byte 0 is not UTF-8: save the file as UTF-8"),
        (b"a: b\n" * MOST_BYTES, "f.yaml: more than 256 KiB, so it is no config"),
        (b"[1, 2]", r"f\.yaml:1: a config is a mapping of sections, got a list"),
        (b"null", "got null"),
        (b"3", "got the number 3"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path, content, message):
    (tmp_path / "f.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_mapping(tmp_path / "f.yaml")


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="a folder, not a config file"):
        read_mapping(tmp_path)
    with pytest.raises(ConfigError, match="there is no such config file"):
        read_mapping(tmp_path / "none.yaml")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    with pytest.raises(ConfigError, match=r"loop\.yaml: the config file cannot be read"):
        read_mapping(tmp_path / "loop.yaml")
    with pytest.raises(ConfigError, match="cannot be read: File name too long"):
        read_mapping(tmp_path / ("x" * 300))


def test_a_byte_order_mark_and_windows_lines_are_no_part_of_the_values(tmp_path):
    (tmp_path / "f.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: c\r\n")
    assert read_mapping(tmp_path / "f.yaml").plain() == {"a": 1, "b": "c"}


def test_the_largest_file_is_read_in_seconds():
    started = time.monotonic()
    read("- [a, {b: 1}]\n" * (MOST_BYTES // 14))
    assert time.monotonic() - started < 60
