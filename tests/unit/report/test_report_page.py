"""The page as a whole: what it says, that it is made whatever is missing, that it is safe."""

import re

import pytest
from evaluated_variants import evaluated, unfinished
from reported_variant import reported
from rich.console import Console

from pipeline.commands import report as command
from pipeline.commands.compare import compared
from pipeline.config import ConfigError
from pipeline.graph.graph import Graph
from pipeline.metrics.comparison import Comparison
from pipeline.report import page
from pipeline.storage.artifacts import ERROR_LOG, MANIFEST

NOTHING = Comparison({}, ())
ERRORS = {"kmeans": [2, 1, 2, 2, 1, 2, 2, 1, 2], "dkm_full": [1, 0, 1, 1, 1, 1, 1, 0, 0]}


def html(members):
    graph = Graph(tuple(members))
    configs = [member.config for member in members]
    return page.render(page.page(graph, configs, compared(graph, configs)))


def members_in(tmp_path, names=tuple(ERRORS)):
    return [
        evaluated(tmp_path, name, errors)
        for name, errors in zip(names, ERRORS.values(), strict=True)
    ]


def test_scores_intervals_settings_and_commit_are_there(tmp_path):
    members = members_in(tmp_path)
    for member, commit in zip(members, ("abc123", "def456"), strict=True):
        output = member.nodes["evaluate_asr/test"].artifact
        output.write_json(MANIFEST, {**output.read_json(MANIFEST), "commit": commit})
    text = html(members)
    assert re.search(r"<td class=\"number\">16\.7 \[\d+\.\d, \d+\.\d\]</td>", text)
    assert 'aria-label="WER (%) on test, lower is better: kmeans 41.7 [' in text
    assert "WER reduction and p are relative to kmeans." in text
    assert "<dd>abc123 made evaluate_asr</dd>" in text
    assert "<dd>def456 made evaluate_asr</dd>" in text
    assert "One seed of each variant" in text


def test_what_is_missing_is_named_and_the_rest_is_shown(tmp_path):
    done, waiting = members_in(tmp_path)
    log = waiting.nodes["evaluate_asr/test"].artifact
    with log.write(ERROR_LOG) as file:
        file.write(b"RuntimeError: out of memory")
    text = html([done, unfinished(waiting)])
    assert "1 failed" in text
    assert "RuntimeError: out of memory" in text
    assert "kmeans 41.7 [" in text
    assert "No training is complete." in text
    assert "No test split is tokenized." in text
    # The corpus of these members has no durations.
    assert "What cannot be shown" in text


def test_nothing_computed_at_all_gives_a_page_too(tmp_path):
    member = evaluated(tmp_path, "kmeans", ERRORS["kmeans"])
    for node in member.nodes.values():
        node.artifact.delete("")
    text = html([member])
    assert "Nothing is scored yet." in text
    assert "The corpus is not prepared." in text
    assert "not run" in text


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The page of two variants with everything."""
    folder = tmp_path_factory.mktemp("whole")
    return html([reported(folder, name) for name in ERRORS])


def test_everything_from_a_corpus_stays_text(whole):
    assert "<script" not in whole
    # Transcript, speaker, hypotheses, phone, reason of a reject.
    assert whole.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 17


def test_an_example_has_sound_pictures_and_marked_errors(whole):
    assert whole.count('<audio controls preload="metadata" src="data:audio/flac;base64,') == 6
    assert "<del>one" in whole
    assert "recognised in the resynthesis, 1 error in 2 words" in whole
    pictures = re.findall(r"<(?:svg|img)[^>]*>", whole)
    assert len(pictures) > 8
    assert all(re.search(r'aria-label="[^"]{20,}"', each) for each in pictures)


def test_nothing_comes_from_outside(whole):
    addresses = re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)|@import', whole)
    assert all("".join(each).startswith(("#", "data:")) for each in addresses)
    assert "<link" not in whole


def test_a_page_is_no_larger_than_it_may_be(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(page, "MAX_BYTES", len(whole) - 20_000 + page._TEXT_BYTES)
    text = html([reported(tmp_path, name) for name in ERRORS])
    assert len(text) < len(whole) - 20_000
    assert "1 more would not fit on a page of 15 MB." in text
    assert "<audio" in text


def test_the_page_is_written_to_a_file_and_a_folder_is_refused(tmp_path, monkeypatch):
    members = members_in(tmp_path)
    monkeypatch.setattr(command, "build", lambda _: Graph(tuple(members)))
    configs = [member.config for member in members]
    console = Console(width=200)
    command.report(configs, str(tmp_path / "new" / "page.html"), console)
    assert (tmp_path / "new" / "page.html").read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(ConfigError, match="is a folder: name a file, such as "):
        command.report(configs, str(tmp_path / "new"), console)
    command.report(configs, None, console)
    assert (tmp_path / "report.html").exists()


def test_a_page_that_cannot_be_made_is_a_warning(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("no letters left")

    monkeypatch.setattr(page, "page", fail)
    members, console = members_in(tmp_path), Console(width=200)
    with console.capture() as captured:
        command.add_report(Graph(tuple(members)), [members[0].config], NOTHING, console)
    assert captured.get() == "No page was made: RuntimeError: no letters left\n"
