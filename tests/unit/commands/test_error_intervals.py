"""`compare` shows how sure WERs are, and says where it cannot."""

import json

import pyarrow as pa
import pytest
from rich.console import Console

from pipeline.commands.compare import show
from pipeline.commands.error_intervals import METHOD, error_intervals
from pipeline.config import Config
from pipeline.corpus.adapters.synthetic import SyntheticCorpus
from pipeline.graph.graph import Graph, Member, Node
from pipeline.graph.stage import Stage
from pipeline.storage import table_schemas

SPEAKERS = {f"u{i}": "abc"[i % 3] for i in range(9)}
ERRORS = {"kmeans": [2, 1, 2, 2, 1, 2, 2, 1, 2], "dkm_full": [1, 0, 1, 1, 1, 1, 1, 0, 0]}


def config(tmp_path, variant):
    return Config(
        variant=variant,
        storage=str(tmp_path),
        corpus=SyntheticCorpus(),
        ssl={"model": "some/model", "revision": "0" * 40},
    )


def evaluated(tmp_path, variant, errors, speakers=SPEAKERS):
    """A variant's only member with the nodes that `compare` reads, complete."""
    settings = config(tmp_path, variant)
    corpus, scored = (
        Node(Stage(name, 1, dict, dict), variant, settings, {variant: ()}, {}, {}, split=split)
        for name, split in (("prepare_corpus", ""), ("evaluate_asr", "test"))
    )
    known = [{"utt_id": u, "split": "test", "speaker": s} for u, s in speakers.items()]
    corpus.artifact.write_table("corpus.parquet", pa.Table.from_pylist(known))
    corpus.artifact.finish({})
    counts = {"insertions": 0, "deletions": 0, "search": "beam", "split": "test"}
    rows = [
        {"utt_id": u, "reference": "a b c d", "hypothesis": "", "substitutions": n, **counts}
        for u, n in zip(speakers, errors, strict=True)
    ]
    table = pa.Table.from_pylist(rows, schema=table_schemas.HYPOTHESES)
    scored.artifact.write_table("hypotheses.parquet", table)
    scored.artifact.write_json("metrics.json", {"test.wer": sum(errors) / (4 * len(errors))})
    scored.artifact.finish({})
    return Member("", settings, {node.name: node for node in (corpus, scored)})


def graph_of(tmp_path, errors):
    return Graph(tuple(evaluated(tmp_path, name, each) for name, each in errors.items()))


def shown(graph, configs, output_format, **options):
    console = Console(width=200)
    with console.capture() as captured:
        show(graph, configs, output_format, console, **options)
    return captured.get()


def test_every_format_has_the_intervals(tmp_path):
    graph = graph_of(tmp_path, ERRORS)
    configs = [config(tmp_path, name) for name in ("dkm_full", "kmeans")]
    found = json.loads(shown(graph, configs, "json"))
    assert list(found) == ["kmeans", "dkm_full"]
    assert found["kmeans"]["test.wer"] == 15 / 36
    row = found["dkm_full"]
    assert row["test.wer"] == 6 / 36
    assert row["test.wer_low"] < 6 / 36 < row["test.wer_high"]
    assert row["test.wer_reduction"] == pytest.approx(0.6)
    assert 0 < row["test.wer_reduction_low"] < 0.6 < row["test.wer_reduction_high"] <= 1
    # Eight utterances differ, all in one direction: 2 of 2^8 swaps.
    assert row["test.wer_reduction_p"] == pytest.approx(2 / 2**8, abs=0.003)
    low, high = (100 * row[f"test.wer_{edge}"] for edge in ("low", "high"))
    markdown = shown(graph, configs, "markdown")
    assert f"| 16.7 [{low:.1f}, {high:.1f}] |" in markdown
    assert METHOD in markdown
    assert f"16.7 [{low:.1f}, {high:.1f}]" in shown(graph, configs, "table")
    assert f"test.wer_low,{found['kmeans']['test.wer_low']}," in shown(graph, configs, "csv")


def test_a_variant_that_was_trained_several_times_has_the_mean_of_its_scores(tmp_path):
    first, second = (
        evaluated(tmp_path / name, "kmeans", errors) for name, errors in ERRORS.items()
    )
    graph = Graph((first, second))
    found = json.loads(shown(graph, [config(tmp_path, "kmeans")], "json"))
    assert found["kmeans"]["test.wer"] == pytest.approx((15 + 6) / 2 / 36)


def test_all_scores_are_shown_when_asked_for(tmp_path):
    graph, configs = graph_of(tmp_path, ERRORS), [config(tmp_path, "kmeans")]
    for output_format in ("table", "markdown"):
        assert "CER" not in shown(graph, configs, output_format)
        assert "CER" in shown(graph, configs, output_format, show_all=True)


def test_hypotheses_that_are_missing_or_damaged_are_named(tmp_path):
    graph = graph_of(tmp_path, {**ERRORS, "dkm_layers": ERRORS["kmeans"]})
    broken = [
        graph.members_of(name)[0].nodes["evaluate_asr/test"] for name in ("dkm_full", "dkm_layers")
    ]
    broken[0].artifact.delete("hypotheses.parquet")
    with broken[1].artifact.write("hypotheses.parquet") as file:
        file.write(b"not Parquet")
    found = error_intervals(graph, ("kmeans", "dkm_full", "dkm_layers"), ("test",), "kmeans")
    assert (found.rows["dkm_full"], found.rows["dkm_layers"]) == ({}, {})
    assert "test.wer_low" in found.rows["kmeans"]
    assert found.notes[0] == METHOD
    assert found.notes[1].startswith("test: no interval and no p for dkm_full: ")
    assert "hypotheses.parquet is missing" in found.notes[1]
    assert found.notes[2].startswith("test: no interval and no p for dkm_layers: ")


def test_variants_with_other_utterances_are_named(tmp_path):
    fewer = dict(list(SPEAKERS.items())[:6])
    members = (
        evaluated(tmp_path, "kmeans", ERRORS["kmeans"]),
        evaluated(tmp_path, "mine", [0] * 6, fewer),
    )
    found = error_intervals(Graph(members), ("kmeans", "mine"), ("test",), "kmeans")
    assert "test.wer_reduction_p" not in found.rows["mine"]
    assert found.notes[-1].endswith("for mine: scored on other utterances than kmeans.")


@pytest.mark.parametrize(
    ("names", "notes"),
    [
        (
            "aaaaaaaaa",
            [
                "test has one speaker: its intervals draw utterances alone, and say nothing of others."
            ],
        ),
        ("abcdeabcd", ["test has 5 speakers: for others its intervals are too narrow."]),
        ("abcdefabc", []),
    ],
)
def test_few_speakers_are_said(tmp_path, names, notes):
    speakers = dict(zip(SPEAKERS, names, strict=True))
    member = evaluated(tmp_path, "kmeans", ERRORS["kmeans"], speakers)
    found = error_intervals(Graph((member,)), ("kmeans",), ("test",), "kmeans")
    assert found.rows["kmeans"]["test.wer_speakers"] == len(set(names))
    assert found.notes == [METHOD, *notes]


def test_one_utterance_has_no_interval(tmp_path):
    member = evaluated(tmp_path, "kmeans", [1], {"u1": "a"})
    found = error_intervals(Graph((member,)), ("kmeans",), ("test",), "kmeans")
    assert found.rows == {"kmeans": {}}
    assert found.notes == ["test has one utterance: no interval and no p."]


def test_nothing_evaluated_is_nothing_to_say():
    found = error_intervals(Graph(()), ("kmeans",), ("test",), "kmeans")
    assert (found.rows, found.notes) == ({"kmeans": {}}, [])
