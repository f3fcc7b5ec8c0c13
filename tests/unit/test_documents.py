"""The documents: links lead somewhere, commands and options exist, the reference is current."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from pipeline.__main__ import app
from pipeline.config import Config
from pipeline.graph.graph import DEFAULT_STAGES
from pipeline.metrics import comparison

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "examples/*.md", "cluster/*.md", "configs/*/*.md")
    for path in ROOT.glob(pattern)
)
COMMANDS = typer.main.get_command(app).commands
MAX_README_LINES = 130

in_each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix()
)


def shell_lines(document: Path) -> Iterator[str]:
    """The commands of a document's `sh` blocks, one logical line each, comments removed."""
    text = document.read_text(encoding="utf-8")
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if command := line.partition(" #")[0].strip():
                yield command


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives a document's headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@in_each_document
def test_links_lead_to_files_and_headings(document):
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    for link in links:
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


@in_each_document
def test_files_that_are_named_exist(document):
    text = document.read_text(encoding="utf-8")
    folders = "pipeline|tasks|configs|tests|docs|cluster|examples"
    for name in re.findall(rf"`((?:{folders})/[\w./]+)`", text):
        assert (ROOT / name).exists(), f"{name} is not there"


@in_each_document
def test_commands_and_their_options_exist(document):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in shell_lines(document):
        words = line.split()
        if words[0] == "make":
            names = {word for word in words[1:] if "=" not in word}
            assert names <= targets, f"{line}: no such target"
        elif ours := re.match(r"(?:\.venv/bin/)?(?:python -m pipeline|dkm) (\S+)(.*)", line):
            options = {name for known in COMMANDS[ours[1]].params for name in known.opts}
            used = set(re.findall(r"(?<=\s)--[a-z-]+", ours[2]))
            assert used <= options | {"--help"}, f"{line}: no such option"
        elif script := re.search(r"python (\S+\.py)", line):
            assert (ROOT / script[1]).is_file(), f"{line}: no such script"


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES


def test_the_file_tree_of_the_readme_is_there():
    (tree,) = re.findall(r"^```text\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    parents: list[str] = []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        for name in re.match(r" *(\S+(?:  \S+/)*)", line)[1].split():
            parents[depth:] = [name.rstrip("/")]
            path = ROOT.joinpath(*parents)
            assert path.is_dir() if name.endswith("/") else path.is_file(), f"{path} is not there"


def test_every_key_of_a_config_is_described():
    schema = Config.model_json_schema()
    for name, section in {"Config": schema, **schema["$defs"]}.items():
        assert section["description"], name
        for key, value in section["properties"].items():
            chooses_the_section = key == "kind" and "const" in value
            assert {"description", "$ref"} & value.keys() or chooses_the_section, f"{name}.{key}"


def test_the_configuration_reference_is_current_and_needs_neither_torch_nor_ray():
    script = ROOT / "docs" / "make_configuration.py"
    code = (
        f"import runpy, sys; runpy.run_path({str(script)!r}, run_name='__main__'); "
        "sys.exit(bool({'torch', 'ray', 'transformers'} & set(sys.modules)))"
    )
    made = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert made.stdout == page, "run: python docs/make_configuration.py > docs/configuration.md"


RESULTS = ROOT / "docs" / "results"


@pytest.mark.parametrize(
    ("page", "corpus", "show_all"),
    [
        ("README.md", "an4", False),
        ("docs/results.md", "an4", True),
        ("docs/results.md", "an4_steps", False),
        ("docs/results.md", "an4_whisper", False),
        ("docs/results.md", "spoken_digits_folds", False),
        ("docs/results.md", "speechocean762", False),
        ("configs/speechocean762/LOG.md", "speechocean762", True),
        ("configs/spoken_digits_folds/LOG.md", "spoken_digits_folds", True),
        ("configs/an4/LOG.md", "an4", True),
        ("configs/an4/LOG.md", "an4_steps", True),
        ("configs/ljspeech/LOG.md", "ljspeech_hour", True),
        ("configs/an4_whisper/LOG.md", "an4_whisper", True),
    ],
)
def test_the_tables_are_those_of_compare(page, corpus, show_all):
    scores = json.loads((RESULTS / f"{corpus}.json").read_text(encoding="utf-8"))
    found = comparison.Comparison(scores, ("test",))
    table = comparison.as_markdown(found, show_all=show_all).splitlines()
    scored = {line for line in table if "| test |" in line}
    assert len(scored) >= 6
    assert scored <= set((ROOT / page).read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pictures_show_the_stages_and_the_stored_scores(theme):
    images = ROOT / "docs" / "images"
    stages, result = (
        set(re.findall(r"<text[^>]*>([^<]*)</text>", (images / f"{name}-{theme}.svg").read_text()))
        for name in ("stages", "result")
    )
    shown = {module.removeprefix("tasks.") for module in DEFAULT_STAGES}
    beside = {"train_token_asr", "train_unit_lm", "evaluate_unit_lm"}
    beside |= {"judge_resynthesis", "bound_resynthesis"}
    assert shown - beside <= stages
    scores = json.loads((RESULTS / "an4.json").read_text(encoding="utf-8"))
    shown = {f"{100 * row['test.wer']:.1f}" for row in scores.values()}
    assert shown <= result, "run docs/make_pictures.py"
