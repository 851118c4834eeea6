"""The report in a real browser: nothing on its console, every filter filters, all of it by keyboard."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ffaa.metrics.detection import summarize
from ffaa.reporting.gallery import Places
from ffaa.reporting.html import build_page
from ffaa.reporting.report_run import Run
from tests.reporting.toy_results import Toy, toy_lines

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

N = 70
BAD = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install -e '.[dev]')")
    program = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    found = toy_lines(N)
    found[0]["answers"][0] |= {"text": BAD, "question": BAD}
    found[2] = {"id": found[2]["id"], "label": "real", "status": "failed", "error": "no face"}
    found[4] |= {"verdict": "unparsed"}
    found[5]["answers"][1]["verdict"] = "real"
    found[5] |= {"chosen": 1, "verdict": "real", "score": 0.9, "probability": 0.9, "difficulty": "hard"}
    return found


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, lines: list[dict[str, Any]]) -> Path:
    toy = Toy(tmp_path_factory.mktemp("report"))
    toy.benchmark("free_toy", N)
    heat = toy.root / "run"
    heat.mkdir()
    toy.heat_maps(heat, N)
    runs = [
        Run(toy.root / name, "free_toy", of, summarize(of), {"method": "ffaa", "model": name})
        for name, of in (("one", lines), ("two", toy_lines(N, seed=3)))
    ]
    places = Places({"free_toy": toy.root / "benchmark" / "free_toy"}, [heat / "heatmaps", heat / "none"])
    path = toy.root / "report.html"
    path.write_text(build_page(runs, places, path).html, encoding="utf-8")
    return path


@pytest.fixture
def page(browser: Browser, file: Path) -> Iterator[Page]:
    found = browser.new_page(viewport={"width": 1280, "height": 900})
    said: list[str] = []
    found.on("console", lambda message: said.append(message.text))
    found.on("pageerror", lambda error: said.append(str(error)))
    found.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    found.goto(file.as_uri())
    found.wait_for_selector("#cards button")
    yield found
    assert not said
    found.close()


def counted(page: Page) -> int:
    """Pictures that the status line says are shown."""
    return int(page.locator("#count").inner_text().split()[0])


def choose(page: Page, group: str, name: str) -> None:
    page.get_by_role("group", name=group, exact=True).get_by_role("radio", name=name).check()


def test_every_filter_filters(page: Page, lines: list[dict[str, Any]]) -> None:
    assert counted(page) == N and page.locator("#cards li").count() == 60
    done = [line for line in lines if line["status"] == "ok"]
    expected = {
        ("Outcome", "right"): sum(line["verdict"] == line["label"] for line in done),
        ("Outcome", "wrong"): sum(line["verdict"] not in (line["label"], "unparsed") for line in done),
        ("Outcome", "undecided"): 1,
        ("Outcome", "failed"): 1,
        ("In truth", "fake"): sum(line["label"] == "fake" for line in lines),
        ("Kind of forgery", "Face blending"): sum(line.get("forgery_type") == "Face blending" for line in lines),
        ("Difficulty", "hard"): sum(line["difficulty"] == "hard" for line in done),
        ("Disagreement", "answers differ"): sum(len({a["verdict"] for a in line["answers"]}) > 1 for line in done),
        ("Disagreement", "score against the verdict"): 1,
        ("Certainty", "not sure"): sum(line["uncertain"] for line in done),
    }
    for (group, name), count in expected.items():
        choose(page, group, name)
        assert counted(page) == count, (group, name)
        label = page.get_by_role("group", name=group, exact=True).locator("label", has_text=name).first
        assert label.locator(".num").inner_text() == str(count)
        page.get_by_role("button", name="Show all").first.click()
        assert counted(page) == N


def test_filters_add_up_and_say_when_nothing_is_left(page: Page) -> None:
    choose(page, "Outcome", "failed")
    choose(page, "In truth", "fake")
    assert counted(page) == 0 and page.locator("#none").is_visible()
    page.locator("#clear2").click()
    assert counted(page) == N and not page.locator("#none").is_visible()
    page.get_by_label("Words").fill("00012")
    assert counted(page) == 1 and "00012.jpg" in page.locator("#cards").inner_text()


def test_another_run_and_another_order(page: Page) -> None:
    page.get_by_label("Run", exact=True).select_option(label="free_toy: B: FFAA (MIDS), two")
    assert page.get_by_role("radio", name="failed").count() == 0 and counted(page) == N
    page.get_by_label("Order").select_option("high")
    scores = sorted((line["probability"] for line in toy_lines(N, seed=3)), reverse=True)
    shown = page.locator("#cards li .hidden").all_inner_texts()
    assert [float(text.split()[-1]) for text in shown[:5]] == pytest.approx(scores[:5], abs=0.006)


def test_a_picture_in_full_and_text_stays_text(page: Page) -> None:
    page.locator("#cards button").first.click()
    dialog = page.get_by_role("dialog")
    assert dialog.locator("h2").inner_text() == "00000.jpg"
    assert BAD in dialog.inner_text() and page.title() != "taken"
    assert dialog.locator("img").count() == 3 and dialog.locator("ol > li").count() == 3
    assert "match score 0.800" in dialog.inner_text() and "Presumed fake" in dialog.inner_text()
    assert "Other runs on this picture" in dialog.inner_text()
    page.get_by_role("button", name="Next picture").click()
    assert dialog.locator("img").count() == 4
    # Ends when all are drawn, fails where one cannot be; the page's policy forbids playwright's own waiting.
    page.evaluate("Promise.all([...document.querySelectorAll('#detail img')].map(one => one.decode()))")
    assert page.evaluate("[...document.querySelectorAll('#detail img')].every(one => one.alt)")
    page.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()


def until(page: Page, holds: Callable[[], bool]) -> bool:
    """Whether it comes to hold within two seconds."""
    for _ in range(100):
        if holds():
            return True
        page.wait_for_timeout(20)
    return False


def test_by_keyboard_alone(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    # Whether a table scrolls at this width depends on the machine's fonts.
    stops = "[...document.querySelectorAll('.scroll')].map(one => [one.tabIndex, one.scrollWidth > one.clientWidth])"
    assert all(index == (0 if scrolls else -1) for index, scrolls in page.evaluate(stops))
    page.locator("#words").focus()
    page.keyboard.press("Tab")
    here = "document.activeElement.dataset.position"
    assert page.evaluate(here) == "0"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(here) == "1"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("ArrowDown")
    below = int(page.evaluate(here))
    assert below > 2
    page.keyboard.press("Enter")
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    # Of Escape the browser makes a task of its own.
    closed = page.get_by_role("dialog")
    assert until(page, lambda: not closed.is_visible() and page.evaluate(here) == str(below + 1))


def test_sheets_are_turned_and_a_picture_on_the_next_is_found_again(page: Page) -> None:
    page.get_by_role("button", name="Later").click()
    assert page.locator("#cards li").count() == N - 60 and "61 to 70" in page.locator("#page").inner_text()
    assert page.evaluate("document.activeElement.dataset.position") == "60"
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    assert until(page, lambda: page.evaluate("document.activeElement.dataset.position") == "59")
    assert page.get_by_role("button", name="Earlier").is_disabled()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark"), (820, "light")])
def test_nothing_is_wider_than_the_window(browser: Browser, file: Path, width: int, scheme: Any) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.goto(file.as_uri())
    page.wait_for_selector("#cards button")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("#cards button").first.click()
    assert page.evaluate("document.getElementById('detail').scrollWidth") <= width
    page.close()


def test_text_stands_out_from_its_ground_in_light_and_dark(browser: Browser, file: Path) -> None:
    """Contrast of at least 4.5 to 1 (WCAG 2.2, 1.4.3) for both inks on the paper."""
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(file.as_uri())
        names = ("--paper", "--ink", "--soft", "--real", "--fake")
        colours = {
            name: page.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('{name}').trim()")
            for name in names
        }
        ground = luminance(colours.pop("--paper"))
        for name, colour in colours.items():
            dark, light = sorted((ground, luminance(colour)))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (scheme, name)
        page.close()


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    whole = colour.lstrip("#")
    whole = "".join(2 * letter for letter in whole) if len(whole) == 3 else whole
    parts = [int(whole[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_print_has_the_figures_and_not_the_controls(page: Page) -> None:
    page.emulate_media(media="print")
    for hidden in (".filters", ".contents", ".downloads", "#words"):
        assert not page.locator(hidden).first.is_visible()
    assert page.locator("#scores table").is_visible() and page.locator("#cards li").first.is_visible()
