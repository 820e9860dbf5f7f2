"""report.html in a browser: it shows what it should, and does nothing that a hostile row asks for.

The browser is Debian's chromium (`apt-get install chromium`); these tests fail where there is none.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

import batchrun

HOSTILE = "</title></style></script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><b>bold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A page in a browser.

    Attributes:
        told: what went wrong on it: messages on the console, errors, and everything it asked for besides itself.
    """

    page: Page
    told: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    assert path is not None, "chromium is missing: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])  # tests may run as root, where it has none
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, file: Path, **options: Any) -> Iterator[Opened]:
    context = browser.new_context(**options)
    shown = Opened(page=context.new_page())
    shown.page.on("console", lambda message: shown.told.append(message.text))
    shown.page.on("pageerror", lambda error: shown.told.append(str(error)))
    shown.page.on("dialog", lambda dialog: shown.told.append(dialog.message))
    shown.page.on("request", lambda request: shown.told.append(request.url) if request.url != file.as_uri() else None)
    shown.page.goto(file.as_uri())
    try:
        yield shown
    finally:
        context.close()


def check(item: dict[str, Any]) -> dict[str, Any]:
    if item["number"] % 5 == 0:
        raise ValueError(f"{HOSTILE} no. {item['number']}")
    return {"text": HOSTILE}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of hostile rows."""
    folder = tmp_path_factory.mktemp("report")
    rows = [{"id": f"{HOSTILE} {number}", "number": number} for number in range(100)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCHRUN_HOME", str(folder / "home"))
        output, run = batchrun.Output(path=str(folder / "runs")), batchrun.Run(retry=batchrun.Retry(max_attempts=1))
        execution = batchrun.map(check, rows, quiet=True, name=HOSTILE, output=output, run=run)
    assert execution.progress.failed_items == 20
    return execution.folder / "report.html"


def test_a_report_of_hostile_rows_is_inert(browser: Browser, report: Path) -> None:
    """It runs no script, loads nothing, makes no noise on the console, and has no element that a row brought along."""
    with opened(browser, report) as shown:
        assert shown.told == []
        assert shown.page.title() == f"{HOSTILE} – completed"
        assert shown.page.locator("script, img, b, iframe, a, form").count() == 0
        assert shown.page.get_by_role("heading", level=1).inner_text().startswith("</title></style></script>")


def test_a_script_that_got_in_would_not_run(browser: Browser, report: Path, tmp_path: Path) -> None:
    """Should a value ever slip through unescaped, the page's own policy stops it."""
    page = tmp_path / "changed.html"
    page.write_text(report.read_text().replace("<main>", "<main><script>document.title='owned'</script><img src='http://127.0.0.1:9/x'>"))
    with opened(browser, page) as shown:
        assert shown.page.title() != "owned"
        assert any("Content Security Policy" in line for line in shown.told)
        assert not shown.page.evaluate("document.images[0].naturalWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 380])
def test_charts_and_tables_are_seen(browser: Browser, report: Path, scheme: str, width: int) -> None:
    """On a desk and on a phone, by day and by night: charts have columns in a colour of their own, and nothing sticks out."""
    with opened(browser, report, color_scheme=scheme, viewport={"width": width, "height": 800}) as shown:
        page = shown.page
        assert page.locator("svg.chart").count() == 2
        for chart in page.locator("svg.chart").all():
            assert chart.is_visible()
            box = chart.bounding_box()
            assert box is not None and box["height"] > 80
            assert chart.locator("rect").count() >= 1
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        column = page.evaluate("getComputedStyle(document.querySelector('svg.chart .ended rect')).fill")
        text = page.evaluate("getComputedStyle(document.querySelector('svg.chart text')).fill")
        assert len({background, column, text}) == 3
        assert (background == "rgb(20, 23, 28)") == (scheme == "dark")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_failures_and_numbers_can_be_read(browser: Browser, report: Path) -> None:
    """Similar failures are one group with examples, and a chart opens to its numbers, also with the keyboard."""
    with opened(browser, report) as shown:
        page = shown.page
        assert page.get_by_role("img", name="80 completed, 20 failed").is_visible()
        group = page.locator("details.group")
        assert group.count() == 1
        assert group.locator("summary").inner_text().startswith("20 × ValueError")
        assert group.locator("dd").count() == 3
        numbers = page.locator("figure.throughput details")
        assert not numbers.locator("table").is_visible()
        numbers.locator("summary").focus()
        page.keyboard.press("Enter")
        assert numbers.locator("table").is_visible()


def test_a_report_prints(browser: Browser, report: Path) -> None:
    """On paper it is dark on white, whatever the screen is."""
    with opened(browser, report, color_scheme="dark") as shown:
        shown.page.emulate_media(media="print")
        assert shown.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert shown.page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert len(shown.page.pdf()) > 10_000
