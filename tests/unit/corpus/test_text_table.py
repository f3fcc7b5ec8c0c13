import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audio.unusable import UnusableError
from pipeline.audio.utterance import CorpusError, Reject
from pipeline.corpus.text_table import Line, TableRow, TextTable, fields, read_lines, read_text
from pipeline.storage.folders import Folder

# Python's str.splitlines() splits at all of these.
NO_LINE_ENDS = "\u2028\u2029\u0085\v\f\x1c\x1d\x1e"


def test_a_text_file_is_read_or_named_with_the_cure(tmp_path, monkeypatch):
    folder = Folder(str(tmp_path))
    (tmp_path / "a").write_bytes(b"a one\r\n")
    assert read_text(folder, "a", "missing") == b"a one\r\n"
    for name in ("b", "."):
        with pytest.raises(CorpusError, match=r"^there is no b: write it$"):
            read_text(folder, name, "there is no b: write it")

    def refuse(_folder, _name):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Folder, "read", refuse)
    with pytest.raises(CorpusError, match=f"^'{tmp_path}/a' cannot be read: Permission denied$"):
        read_text(folder, "a", "missing")


def texts(content):
    return [line.text for line in read_lines(content, "t")]


@pytest.mark.parametrize("character", NO_LINE_ENDS)
def test_only_a_newline_ends_a_line(character):
    text = f"a one{character}two"
    assert texts(f"{text}\nb three".encode()) == [text, "b three"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\r\n", "\r"])
def test_line_ends_of_every_system(end):
    assert texts(f"a one{end}{end}b two{end}".encode()) == ["a one", "b two"]


def test_a_carriage_return_within_a_line_is_rejected():
    first, second = read_lines(b"a one\rtwo\nb three\n", "t")
    assert first == Reject(
        None,
        "t:1",
        "broken line: it holds a carriage return, which ends a line only before a newline",
    )
    assert second == Line("t:2", "b three")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_a_byte_order_mark_is_no_text(encoding):
    text = "a caf\u00e9 \u010a\nb two\n"  # U+010A has the byte of a newline
    content = text.encode(encoding)
    content = b"\xfe\xff" + content if encoding == "utf-16-be" else content
    assert texts(content) == ["a caf\u00e9 \u010a", "b two"]


def test_byte_order_marks_of_joined_files_are_no_text():
    assert texts("\ufeffa one\n\ufeffb two \ufeff\n".encode()) == ["a one", "b two \ufeff"]


BROKEN = {
    b"a caf\xe9": "not UTF-8",
    b"a \xed\xa0\x80": "not UTF-8",  # half of a surrogate pair
    b"a one\0two": "it holds NUL bytes; save the file as UTF-8",
    "a one".encode("utf-16-le"): "it holds NUL bytes; save the file as UTF-8",
}


@pytest.mark.parametrize("line", BROKEN)
def test_a_broken_line_is_rejected_by_number_and_the_rest_is_kept(line):
    broken, last = read_lines(b"\n" + line + b"\nb two", "t")
    assert broken == Reject(None, "t:2", f"broken line: {BROKEN[line]}")
    assert last.text == "b two"


def test_a_cut_off_utf_16_file_does_not_lose_its_end_unnoticed():
    content = "a one\nb two".encode("utf-16")[:-1]
    assert texts(content) == ["a one", "b tw\ufffd"]


@pytest.mark.parametrize("gap", [" ", "\t", "  ", " \t "])
def test_spaces_and_tabs_separate_id_and_value(gap):
    table = TextTable(f"{gap}a{gap}one two{gap}\nb{gap}\nc\n".encode(), "t")
    assert {key: row.value for key, row in table.rows.items()} == {"a": "one two", "b": "", "c": ""}
    assert table.rejects == []


@pytest.mark.parametrize("space", ["\u00a0", "\u3000", "\u2028", "\v"])
def test_other_spaces_belong_to_the_value(space):
    table = TextTable(f"a {space}one{space}two{space}\n".encode(), "t")
    assert table.rows["a"].value == f"{space}one{space}two{space}"


def test_tabs_within_a_value_are_kept():
    assert TextTable(b"a my\tfile  b.wav\n", "t").rows["a"].value == "my\tfile  b.wav"


def test_a_format_may_have_lines_of_its_own():
    def parse(line):
        value, comma, key = line.rpartition(",")
        if not comma:
            raise UnusableError("no comma")
        return key, value

    table = TextTable(b"one,a\ntwo\nthree,a\n", "t", parse)
    assert table.rows == {"a": TableRow("t:1", "one")}
    assert table.rejects == [
        Reject(None, "t:2", "broken line: no comma"),
        Reject("a", "t:3", "duplicate id: t:1 has it already"),
    ]


def test_the_first_line_of_an_id_counts():
    table = TextTable(b"a one\nb two\n\na one\na three\n", "t")
    assert {key: row.value for key, row in table.rows.items()} == {"a": "one", "b": "two"}
    assert table.rejects == [
        Reject("a", "t:4", "duplicate id: t:1 has it already"),
        Reject("a", "t:5", "duplicate id: t:1 has it already"),
    ]


def test_fields_of_a_value():
    assert fields(" rec\t0.5  1 ") == ["rec", "0.5", "1"]
    assert fields("") == []


@given(st.lists(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]))))
def test_every_line_comes_back_as_it_was_written(lines):
    content = "".join(f"x{line}\n" for line in lines).encode()
    assert texts(content) == [f"x{line}" for line in lines]


@given(st.binary())
def test_any_bytes_become_lines_or_rejects(content):
    for line in read_lines(content, "t"):
        assert line.text.strip() if isinstance(line, Line) else line.kind == "broken line"
