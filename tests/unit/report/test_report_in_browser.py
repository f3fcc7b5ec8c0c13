"""The page in a real browser, opened from disk; skipped where there is none."""

import pytest
from chromium import chromium
from reported_variant import SCRIPT, reported

from pipeline.commands.compare import compared
from pipeline.graph.graph import Graph
from pipeline.report import page

DURATIONS = """() => Promise.all([...document.querySelectorAll("audio")].map(audio =>
    new Promise(done => {
        audio.onloadedmetadata = () => done(audio.duration);
        audio.onerror = () => done(-1);
        if (audio.readyState > 0) done(audio.duration);
        if (audio.error) done(-1);
    })))"""
PLAYED = """() => new Promise(done => {
    const audio = document.querySelector("audio");
    audio.muted = true;
    audio.ontimeupdate = () => audio.currentTime > 0.1 && done(audio.currentTime);
    audio.play().catch(error => done(String(error)));
})"""
WIDTHS = "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    members = [reported(folder, name) for name in ("kmeans", "dkm_full")]
    configs, graph = [member.config for member in members], Graph(tuple(members))
    text = page.render(page.page(graph, configs, compared(graph, configs)))
    (folder / "report.html").write_text(text, encoding="utf-8")
    return (folder / "report.html").as_uri()


@pytest.fixture
def opened(browser, address):
    """Open the page; what the browser complains of or loads from elsewhere fails the test."""
    contexts, wrong = [], []

    def open_page(**options):
        contexts.append(browser.new_context(**options))
        shown = contexts[-1].new_page()
        shown.on("console", lambda message: wrong.append(message.text))
        shown.on("pageerror", lambda error: wrong.append(str(error)))
        shown.on(
            "request",
            lambda request: (
                None
                if request.url == address or request.url.startswith("data:")
                else wrong.append(request.url)
            ),
        )
        shown.goto(address)
        return shown

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def test_sound_plays_and_a_transcript_stays_text(opened):
    shown = opened()
    assert shown.evaluate(DURATIONS) == [1.0] * 6
    assert shown.evaluate(PLAYED) > 0.1
    assert SCRIPT in shown.inner_text("#listening ~ article .said")
    assert shown.locator("script").count() == 0


def test_it_fits_a_phone(opened):
    shown = opened(viewport={"width": 375, "height": 700})
    full, seen = shown.evaluate(WIDTHS)
    assert full == seen == 375
    # What is wider scrolls in a box of its own.
    assert shown.evaluate(
        "() => [...document.querySelectorAll('table, svg, audio')].every("
        "each => each.clientWidth <= 343 || each.closest('.scrolls, .picture'))"
    )


@pytest.mark.parametrize(("scheme", "is_light"), [("light", True), ("dark", False)])
def test_text_and_pictures_read_in_light_and_dark(opened, scheme, is_light):
    shown = opened(color_scheme=scheme)
    brightness = """element => {
        const style = getComputedStyle(element);
        const colour = element.tagName == "BODY" ? style.backgroundColor : style.fill;
        return colour.match(/[0-9]+/g).slice(0, 3).reduce((sum, each) => sum + Number(each), 0) / 765;
    }"""
    page_colour = shown.locator("body").evaluate(brightness)
    text_colour = shown.locator("svg text").first.evaluate(brightness)
    assert (page_colour > 0.9) == is_light
    assert abs(page_colour - text_colour) > 0.6


def test_without_scripts_everything_can_be_read(opened):
    shown = opened(java_script_enabled=False)
    text = shown.locator("body").inner_text()
    for words in ("WER (%)", "recognised in the resynthesis", "train_joint", "no such file"):
        assert words in text
