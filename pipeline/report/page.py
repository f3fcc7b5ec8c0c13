"""The page: one HTML file with everything in it, for a browser without network or scripts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.config import Config
from pipeline.graph.graph import Graph
from pipeline.metrics.comparison import Comparison
from pipeline.redaction import redact
from pipeline.report.codebook import Codebook, codebook
from pipeline.report.corpus import Corpus, corpus
from pipeline.report.curves import Curves, curves
from pipeline.report.listening import Listening, listening
from pipeline.report.outputs import outputs_of
from pipeline.report.scores import Scores, scores
from pipeline.report.settings import Settings, settings
from pipeline.report.stages import Stages, stages
from pipeline.report.variant import variants

MAX_BYTES = 15_000_000
_TEXT_BYTES = 500_000  # room for what is neither sound nor picture
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Page:
    """What the template shows; `outputs` stands for what the storage held, see `outputs_of`."""

    title: str
    outputs: str
    variants: list[str]
    storage: str
    scores: Scores
    curves: Curves
    codebook: Codebook
    listening: Listening
    settings: Settings
    corpus: Corpus
    stages: Stages
    notes: list[str]


def page(graph: Graph, configs: Sequence[Config], found: Comparison) -> Page:
    """Everything that the storage holds of the graph's variants; what is missing is left out."""
    known = variants(graph, configs)
    first = known[0].config
    silent = Page(
        title=first.tracking.experiment,
        outputs=outputs_of(graph),
        variants=[variant.name for variant in known],
        storage=redact(first.storage),
        scores=scores(found),
        curves=curves(known),
        codebook=codebook(known, found.splits),
        listening=Listening({}, 0),
        settings=settings([variant.config for variant in known]),
        corpus=corpus(known),
        stages=stages(graph, [variant.name for variant in known]),
        notes=[],
    )
    room = MAX_BYTES - _TEXT_BYTES - len(render(silent))
    heard = listening(known, found.splits, room)
    # Whatever could not be read has been noted by now, perhaps in two sections.
    notes = dict.fromkeys(note for variant in known for note in variant.notes)
    return replace(silent, listening=heard, notes=list(notes))


def render(shown: Page) -> str:
    """The page as HTML; every text is escaped, whatever a corpus holds."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(page=shown)
