"""How quick a report's gallery is in a real browser: from a click on a filter to the next painted frame.

``python scripts/bench/report_page.py report.html``; needs playwright and Chromium.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

from ffaa.config import parse
from ffaa.runtime import EXIT_DONE, run_door
from ffaa.types import InputError

CLICK = """(input) => new Promise((done) => {
  const began = performance.now();
  input.click();
  requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - began)));
})"""
"""The second frame begins once the first is painted."""


@dataclass(frozen=True)
class Options:
    page: tuple[str, ...] = ()
    """The report."""
    browser: Path = Path("/usr/bin/chromium")
    """Chromium's program."""
    rounds: int = 3
    """Clicks on each filter."""


def main() -> int:
    from playwright.sync_api import sync_playwright

    options = parse(Options, prog="report_page.py", description=__doc__ or "", positional="page")
    if len(options.page) != 1 or not Path(options.page[0]).is_file():
        raise InputError("give one page that scripts/report.py wrote")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.browser, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(Path(options.page[0]).resolve().as_uri(), wait_until="load")
        page.wait_for_selector("#cards button")
        opened = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
        print(f"opened in {opened:.0f} ms: {page.locator('#count').inner_text()}")
        times = []
        for _ in range(options.rounds):
            for filter_ in page.locator("#filters input").all():
                times.append(filter_.evaluate(CLICK))
        browser.close()
    print(
        f"{len(times)} clicks: median {statistics.median(times):.0f} ms, slowest {max(times):.0f} ms to the next frame"
    )
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
