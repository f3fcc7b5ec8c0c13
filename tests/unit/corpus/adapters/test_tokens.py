"""A corpus of tokens that others made: what is read, what is a reject, what is refused."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import SMALL_ASR
from token_corpus import UNITS_PER_SECOND, corpus_of, tokens_table

from pipeline.audio.utterance import CorpusError
from pipeline.config import Config
from pipeline.corpus.adapters.tokens import ADAPTER, TokenCorpus
from pipeline.corpus.check import check
from pipeline.corpus.parts import part_digests
from pipeline.corpus.read_outputs import read_split, read_tokens
from pipeline.graph.graph import build
from pipeline.graph.stage import StageContext
from pipeline.log.stage_log import StageLog
from pipeline.progress import SILENT
from pipeline.storage.artifacts import Artifact
from pipeline.training.train_token_asr import train_token_asr
from pipeline.training.worker import Worker

ROWS = [
    {"utt_id": "a", "split": "train", "units": [3, 3, 900], "text": "One", "speaker": "ann"},
    {"utt_id": "b", "split": "valid", "units": [1, 2, 3, 4, 5], "text": "two", "speaker": "bob"},
    {"utt_id": "c", "split": "test", "units": [65535] * 6, "text": "three", "speaker": "cem"},
]


def write(folder, rows=ROWS, name="tokens.parquet", **types):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    for column, kind in types.items():
        at = table.column_names.index(column)
        table = table.set_column(at, column, table[column].cast(kind))
    pq.write_table(table, path)
    return path


def checked(folder, **keys):
    section = TokenCorpus(**{"tokens": str(folder / "tokens.parquet"), "min_seconds": 0.01, **keys})
    output = Artifact(str(folder / "output"))
    return check(ADAPTER.read(section, output, SILENT), section), output


def read(folder, **keys):
    """The utterances, and the reasons of rejects by utt_id."""
    corpus, _ = checked(folder, **keys)
    return corpus.utterances, {reject.utt_id: reject.reason for reject in corpus.rejects}


def config_of(folder, rows, *, token_asr=None, **corpus):
    """A variant whose corpus of tokens has these rows, and a storage beside it."""
    tokens = str(write(folder, rows))
    return Config.model_validate(
        {
            "variant": "theirs",
            "storage": str(folder / "runs"),
            "corpus": {"kind": "tokens", "tokens": tokens, **corpus},
            "token_asr": token_asr or {},
        }
    )


def test_tokens_become_utterances_and_units_as_tokenize_corpus_has_them(tmp_path):
    write(tmp_path)
    corpus, output = checked(tmp_path)
    assert [
        (each.utt_id, each.split, each.text, each.speaker, each.duration)
        for each in corpus.utterances
    ] == [
        ("c", "test", "three", "cem", 0.12),
        ("a", "train", "one", "ann", 0.06),
        ("b", "valid", "two", "bob", 0.1),
    ]
    assert corpus.rejects == []
    for row in ROWS:
        [(utt_id, units)] = read_tokens(output, row["split"]).items()
        assert (utt_id, units.tolist(), units.dtype) == (row["utt_id"], row["units"], np.uint16)


@pytest.mark.parametrize(
    "types",
    [
        {"units": pa.list_(pa.int64())},
        {"units": pa.large_list(pa.int32()), "utt_id": pa.large_string()},
        {"split": pa.dictionary(pa.int8(), pa.string())},
    ],
    ids=["pandas", "Polars", "categories"],
)
def test_the_types_of_other_tools_are_read_alike(tmp_path, types):
    write(tmp_path, **types)
    assert [each.utt_id for each in read(tmp_path)[0]] == ["c", "a", "b"]


def test_a_folder_of_files_is_one_corpus(tmp_path):
    for row in ROWS:
        write(tmp_path, [row], f"corpus/{row['split']}/part-0.parquet")
    utterances, _ = read(tmp_path, tokens=str(tmp_path / "corpus"))
    assert len(utterances) == 3


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"units": []}, "no units: the list is empty"),
        ({"units": None}, "no units: the list is empty"),
        ({"units": [1, None]}, "no units: the list has gaps"),
        ({"units": [1, -1]}, "unit out of range: -1 to 1, of 0 to 65535"),
        ({"units": [1, 65536]}, "unit out of range: 1 to 65536, of 0 to 65535"),
        ({"text": None}, "no text: neither beside the units nor in corpus.texts"),
        ({"text": "ümlaut"}, "text has characters outside the alphabet"),
        ({"utt_id": "b"}, "duplicate utt_id"),
        ({"units": [1] * 5000}, "too long: 100 s of at most 60 s"),
    ],
)
def test_one_bad_row_is_a_reject_with_its_reason(tmp_path, row, reason):
    bad = {**ROWS[0], "utt_id": "bad", **row}
    write(tmp_path, [*ROWS, bad])
    utterances, rejects = read(tmp_path)
    assert [each.utt_id for each in utterances] == ["c", "a", "b"]
    assert list(rejects) == [bad["utt_id"]]
    assert rejects[bad["utt_id"]].startswith(reason)


def test_a_name_that_an_ignored_split_has_too_is_kept(tmp_path):
    write(tmp_path, [{**ROWS[0], "split": "other"}, *ROWS])
    corpus, output = checked(tmp_path)
    assert len(corpus.utterances) == 3
    assert read_tokens(output, "train")["a"].tolist() == [3, 3, 900]


@pytest.mark.parametrize("name", ["texts.jsonl", "texts.parquet"])
def test_texts_may_be_in_a_table_of_their_own(tmp_path, name):
    write(tmp_path, [{key: row[key] for key in ("utt_id", "split", "units")} for row in ROWS])
    texts = [{key: row[key] for key in ("utt_id", "text", "speaker")} for row in ROWS[:2]]
    if name.endswith("parquet"):
        write(tmp_path, texts, name)
    else:
        lines = "\n".join(map(json.dumps, [*texts, {"utt_id": "a", "text": "twice"}]))
        (tmp_path / name).write_text(lines, encoding="utf-8")
    utterances, rejects = read(tmp_path, texts=str(tmp_path / name))
    assert [(each.utt_id, each.text, each.speaker) for each in utterances] == [
        ("a", "one", "ann"),
        ("b", "two", "bob"),
    ]
    assert list(rejects) == ["c"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"utt_id": "a", "units": [1]}], r"has no column 'split', but \['utt_id', 'units'\]"),
        ([{**ROWS[0], "units": "1 2"}], "column 'units' of .* holds string"),
        ([{**ROWS[0], "units": [0.5]}], "column 'units' of .* holds list<.*double"),
        ([{**ROWS[0], "utt_id": 7}], "column 'utt_id' of .* holds int64: .* must be strings"),
    ],
)
def test_tables_of_another_form_are_refused(tmp_path, rows, message):
    write(tmp_path, rows)
    with pytest.raises(CorpusError, match=message):
        checked(tmp_path)


def test_what_is_not_there_or_no_parquet_is_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"no tokens at .*: set corpus\.tokens"):
        checked(tmp_path)
    (tmp_path / "tokens.parquet").write_bytes(b"utt_id,units")
    with pytest.raises(CorpusError, match="cannot be read as Parquet"):
        checked(tmp_path)
    write(tmp_path)
    with pytest.raises(CorpusError, match=r"no file at .*: check corpus\.texts"):
        checked(tmp_path, texts=str(tmp_path / "none.jsonl"))


def test_units_and_texts_are_parts_of_the_corpus_and_where_it_lies_is_not(tmp_path):
    def parts(name, rows):
        write(tmp_path / name, rows)
        return part_digests(checked(tmp_path / name)[0].utterances)

    first, moved = parts("first", ROWS), parts("moved", ROWS)
    assert first == moved
    other = parts("other", [{**ROWS[0], "units": [3, 3, 901]}, *ROWS[1:]])
    assert {name for name in first if first[name] != other[name]} == {"train/audio"}


def test_changed_files_change_the_fingerprint(tmp_path):
    path = write(tmp_path)
    section = TokenCorpus(tokens=str(path))
    before = ADAPTER.fingerprint(section, Artifact(str(tmp_path)))
    assert before == ADAPTER.fingerprint(section, Artifact(str(tmp_path)))
    write(tmp_path, ROWS[:2])
    assert before != ADAPTER.fingerprint(section, Artifact(str(tmp_path)))


def test_plan_knows_durations_speakers_and_paths(tmp_path):
    section = TokenCorpus(tokens=str(write(tmp_path)))
    assert {n: d.seconds for n, d in ADAPTER.durations(section).items()} == {
        "train": [0.06],
        "valid": [0.1],
        "test": [0.12],
    }
    assert ADAPTER.speakers(section) == {"ann", "bob", "cem"}
    assert ADAPTER.paths(section) == {"tokens": section.tokens}


def test_a_fold_tests_on_the_units_of_all_that_its_speaker_says(tmp_path):
    rows = [
        {
            "utt_id": f"{who}-{split}",
            "split": split,
            "units": [number, 7],
            "text": "a",
            "speaker": who,
        }
        for number, who in enumerate(("ann", "bob"))
        for split in ("train", "valid", "theirs")
    ]
    splits = {"test": ["theirs"]}
    config = config_of(tmp_path, rows, min_seconds=0.01, splits=splits, folds="speaker")
    prepared = build([config], ["prepare_corpus"]).pending()
    for node, (left_out, other) in zip(prepared, ((0, 1), (1, 0)), strict=True):
        output = node.artifact
        node.stage.run(StageContext(node.config, output, {}, StageLog(output)))
        tested = read_tokens(output, "test")
        assert tested.keys() == {each.utt_id for each in read_split(output, "test")}
        assert {tuple(units) for units in tested.values()} == {(left_out, 7)}
        assert len(tested) == 3
        [trained] = read_tokens(output, "train").values()
        assert tuple(trained) == (other, 7)


def test_tokens_alone_are_prepared_trained_on_and_evaluated(tmp_path):
    """The whole graph, without Ray: no stage that needs audio is part of it."""
    rows = [
        {**row, "text": each.text}
        for spoken in corpus_of().values()
        for row, (each, _) in zip(tokens_table(spoken).to_pylist(), spoken, strict=True)
    ]
    token_asr = {
        "subwords": {"vocabulary_size": 14},
        "asr": SMALL_ASR,
        "phases": [{"epochs": 1, "warmup_steps": 2}],
    }
    config = config_of(tmp_path, rows, token_asr=token_asr, units_per_second=UNITS_PER_SECOND)
    ran = []
    while pending := build([config]).pending():
        node = pending[0]
        context = StageContext(
            config, node.artifact, node.input_artifacts, StageLog(node.artifact), split=node.split
        )
        if node.name == "train_token_asr":
            reports = {"log": context.log, "progress": SILENT}
            scores = train_token_asr(config, context.inputs, context.output, Worker(), **reports)
        else:
            scores = node.stage.run(context)
        node.artifact.finish(node.description())
        ran.append(node.name)
    assert ran == ["prepare_corpus", "train_token_asr", "evaluate_asr/test"]
    assert 0 < scores["test.wer"] <= 1
