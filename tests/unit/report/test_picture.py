"""Figures become SVG in the page's colours, and texts in them stay texts."""

import re
from xml.etree import ElementTree as ET

from matplotlib.figure import Figure

from pipeline.report.picture import INK, SERIES, picture

SVG = "{http://www.w3.org/2000/svg}"


def drawn(label="x", colour=SERIES[0]):
    figure = Figure(figsize=(2, 1))
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=colour)
    axes.set_title(label, color=INK)
    return figure


def test_colours_are_the_pages():
    svg = str(picture(drawn, "a line"))
    assert "var(--series-0)" in svg
    assert "var(--ink)" in svg
    assert "#0102" not in svg
    assert "#0101" not in svg


def test_texts_are_escaped_and_are_no_formulas():
    label = "<script>alert(1)</script> & $\\frac$ \N{CJK UNIFIED IDEOGRAPH-4E2D}"
    svg = picture(lambda: drawn(label), 'says "<b>"')
    root = ET.fromstring(svg)  # noqa: S314 - our own text
    assert label in {text.text for text in root.iter(f"{SVG}text")}
    assert root.get("aria-label") == 'says "<b>"'
    assert root.get("role") == "img"
    assert "<script" not in svg


def test_names_in_two_pictures_of_a_page_differ_and_a_picture_is_always_the_same():
    one, other = (str(picture(drawn, alt)) for alt in ("one", "other"))
    names = [set(re.findall(r' id="([^"]+)"', svg)) for svg in (one, other)]
    assert names[0]
    assert not names[0] & names[1]
    assert one == str(picture(drawn, "one"))


def test_nothing_is_loaded_from_outside():
    svg = str(picture(drawn, "a line"))
    assert not re.search(r'(?:href|src)="(?!#|data:)', svg)
    assert "<!DOCTYPE" not in svg
