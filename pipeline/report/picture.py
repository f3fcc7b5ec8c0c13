"""matplotlib's figures as SVG within a page, in the page's own colours, light or dark.

A figure is drawn with colours that stand for variables of the page's style sheet, and text stays
text. So one picture suits both, and can be searched.
"""

import base64
import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

INK, FAINT = "#010100", "#010101"
_NUM_SERIES = 10
SERIES = tuple(f"#0102{number:02x}" for number in range(_NUM_SERIES))
MARKERS = "os^Dv<>pP*"  # so that variants differ without colour
_VARIABLES = {
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES)},
}
_COLOUR = re.compile(r"((?:fill|stroke): )(#01010[01]|#01020[0-9])")
# The names of parts of a figure, which repeat from picture to picture. What is referred to has a
# hash for its name.
_PART = re.compile(r' id="[A-Za-z0-9.]+_[0-9]+"')
_IMAGE = re.compile(r"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)")
_NUM_COLOURS = 64  # of an image: with its 256 x 256 x 256 it would be four times as large
_SIZE = re.compile(r'width="([\d.]+)pt" height="([\d.]+)pt"')


def colour_of(number: int) -> str:
    """The colour of the variant in this place of the comparison."""
    return SERIES[number % _NUM_SERIES]


def marker_of(number: int) -> str:
    return MARKERS[number % len(MARKERS)]


def picture(draw: Callable[[], Figure], alt: str, *, keeps_size: bool = False) -> Markup:
    """What `draw` draws as an `<svg>` element, whose `alt` says in words what it shows.

    It becomes as narrow as the page. One that `keeps_size` scrolls in its box instead.
    """
    with _style(alt):
        drawn = io.StringIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        draw().savefig(drawn, format="svg", metadata=metadata, dpi="figure")
    svg = drawn.getvalue()
    svg = _PART.sub("", svg[svg.index("<svg") :])
    svg = _COLOUR.sub(lambda match: match[1] + _VARIABLES[match[2]], svg)
    own = Markup('role="img" aria-label="{}" class="{}" style="width: {}pt"')
    kind = "fixed" if keeps_size else "fluid"
    [(width, _)] = _SIZE.findall(svg)[:1]
    svg = _SIZE.sub(lambda _: own.format(alt, kind, width), svg, count=1)
    return Markup(svg)  # noqa: S704 - matplotlib escapes the texts of a figure


def _data_uri(png: bytes) -> str:
    """The image with few colours, as an address."""
    smaller = io.BytesIO()
    image = Image.open(io.BytesIO(png))
    image.quantize(_NUM_COLOURS, method=Image.Quantize.FASTOCTREE).save(smaller, "PNG")
    return f"data:image/png;base64,{base64.b64encode(smaller.getvalue()).decode()}"


@contextmanager
def _style(salt: str) -> Iterator[None]:
    """Settings of matplotlib; names within a picture depend on its `salt` alone."""
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "text.parse_math": False,  # a label may hold dollar signs
        "font.size": 9.0,
        "axes.titlesize": 10.0,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "savefig.facecolor": "none",
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "grid.color": FAINT,
        "grid.alpha": 0.3,
        "axes.edgecolor": FAINT,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor"), INK),
        **dict.fromkeys(("xtick.color", "ytick.color"), FAINT),
        **dict.fromkeys(("xtick.labelcolor", "ytick.labelcolor"), INK),
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        # The browser has the letters that the font of the layout lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield
