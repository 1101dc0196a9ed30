"""The page in headless Chromium: what it asks for, what it logs, what a reader with a keyboard, a phone or a screen reader gets."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from driftcli.cli.battery import load_battery
from driftcli.report.html.page import render
from driftcli.report.outputs import html
from driftcli.report.verdict import judge
from driftcli.statistics.costs import StepCosts
from driftcli.traces.reader import read_run
from tests.report.outputs.outcomes import ALL
from tests.report.synthetic import DRIFTING, WITHOUT_STATE, Life, Recipe, write_run

pytestmark = pytest.mark.browser
OUTCOME = "outcome"  # of a gate, with a table
PROMPTS = ("<script>alert(1)</script>", "\u202egnp.exe", *"cdefgh")
RECIPES = {
    "drifting": Recipe(
        DRIFTING,
        prompts=PROMPTS,
        anchors=16,
        extra={"held": ("held-state", DRIFTING), "no-bos": ("template", Life())},
        costs=(StepCosts(1, 0.1, 0.1, (1.0,) * 9),),
    ),
    "not-applicable": Recipe(WITHOUT_STATE, prompts=tuple("abcdefgh"), anchors=10),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of pages of several runs, on disk."""
    folder, found = tmp_path_factory.mktemp("pages"), {}
    for name, recipe in RECIPES.items():
        run = read_run(write_run(folder / name, recipe))
        page = folder / f"{name}.html"
        page.write_text(render(run, judge(run, load_battery(run.probe_names))), encoding="utf-8")
        found[name] = page.as_uri()
    outcome = folder / "outcome.html"
    table = ("number", "RUN0", "difference"), [("a number of many words", "1.25", f"+{number}.25 [+1.25, +2.75]") for number in range(20)]
    outcome.write_text(html.render(ALL, "on 3 prompts", [table], ["a remark"]), encoding="utf-8")
    return {**found, OUTCOME: outcome.as_uri()}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium of this machine."""
    api = pytest.importorskip("playwright.sync_api", reason="tests marked browser need playwright: pip install -e '.[browser]'")
    names = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")
    binary = os.environ.get("DRIFTCLI_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if binary is None:
        pytest.skip("tests marked browser need Chromium: apt-get install chromium, or DRIFTCLI_CHROMIUM names its binary")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=binary, args=["--no-sandbox"], timeout=120_000)
        yield browser
        browser.close()


class Tab:
    """An open page, and everything it logged, asked for or was refused."""

    def __init__(self, chromium: Any, address: str, *, width: int = 1440, theme: str = "light", script: bool = True) -> None:
        self.context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, java_script_enabled=script)
        self.context.set_default_timeout(120_000)
        self.page = self.context.new_page()
        self.logged: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.logged.append(message.text))
        self.page.on("pageerror", lambda error: self.logged.append(str(error)))
        self.page.route("**/*", self._only_itself)
        self.page.add_init_script(
            "window.refused = []; document.addEventListener('securitypolicyviolation', (event) => refused.push(event.violatedDirective));"
        )
        self.page.goto(address)

    def _only_itself(self, route: Any) -> None:
        if route.request.is_navigation_request():
            route.continue_()
        else:
            self.asked.append(route.request.url)
            route.abort()

    def __enter__(self) -> Tab:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@pytest.mark.parametrize("name", RECIPES)
def test_a_page_logs_nothing_asks_for_nothing_and_is_refused_nothing(chromium: Any, files: dict[str, str], name: str) -> None:
    with Tab(chromium, files[name]) as tab:
        for choice in ("dark", "light", "auto"):
            tab.page.click(f"[data-theme-choice={choice}]")
        tab.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        tab.page.evaluate("scrollTo(0, document.body.scrollHeight)")
        assert tab.page.evaluate("refused") == []
        assert (tab.logged, tab.asked) == ([], [])
        drawn = tab.page.evaluate("[...document.querySelectorAll('[data-chart]')].filter((one) => !one.querySelector('svg')).length")
        assert drawn == 0


def test_a_script_in_a_page_that_its_policy_does_not_name_does_not_run(chromium: Any, files: dict[str, str]) -> None:
    changed = Path(files["drifting"].removeprefix("file://"))
    planted = changed.with_name("planted.html")
    planted.write_text(changed.read_text(encoding="utf-8").replace("</main>", "<script>window.ran = 1</script></main>"), encoding="utf-8")
    with Tab(chromium, planted.as_uri()) as tab:
        assert tab.page.evaluate("window.ran") is None
        assert any("Content Security Policy" in line for line in tab.logged)


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("name", [*RECIPES, OUTCOME])
def test_a_page_is_never_wider_than_its_window(chromium: Any, files: dict[str, str], name: str, width: int) -> None:
    with Tab(chromium, files[name], width=width) as tab:
        tab.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", [*RECIPES, OUTCOME])
def test_axe_finds_no_serious_fault(chromium: Any, files: dict[str, str], name: str, theme: str) -> None:
    axe = os.environ.get("DRIFTCLI_AXE")
    if not axe:
        pytest.skip("DRIFTCLI_AXE names no axe.min.js: npm pack axe-core, and take it from the package")
    with Tab(chromium, files[name], theme=theme) as tab:
        tab.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        tab.page.evaluate(Path(axe).read_text(encoding="utf-8"))
        found = tab.page.evaluate("axe.run(document, { resultTypes: ['violations'], preload: false })")
    serious = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["html"][:120] for node in one["nodes"][:3]]) for one in serious] == []


def test_a_click_leads_from_a_depth_to_a_chain(chromium: Any, files: dict[str, str]) -> None:
    with Tab(chromium, files["drifting"]) as tab:
        tab.page.click("#drill-depths button >> nth=2")
        assert "At depth 3" in tab.page.inner_text("#drill-depth-said")
        tab.page.click("#drill-prompts button >> nth=3")
        chosen = tab.page.inner_text("#drill-prompts [aria-pressed=true]")
        assert chosen == tab.page.inner_text("#drill-prompts button >> nth=3")
        tab.page.click(".round >> nth=1 >> bdi >> nth=0")  # a box may go over two lines, with nothing in its middle
        assert "Round 2 of" in tab.page.inner_text("#drill-chain")
        assert tab.page.locator("#drill-chain tbody tr").count() >= 8
        assert tab.page.locator("#drill-chain svg").count() == 1


def test_the_keyboard_leads_there_too(chromium: Any, files: dict[str, str]) -> None:
    with Tab(chromium, files["drifting"]) as tab:
        tab.page.focus("#drill-depths button >> nth=4")
        tab.page.keyboard.press("Enter")
        assert "At depth 5" in tab.page.inner_text("#drill-depth-said")
        assert tab.page.evaluate("document.activeElement.textContent") == "5"
        tab.page.focus("#drill-prompts button >> nth=1")
        tab.page.keyboard.press("Space")
        assert tab.page.evaluate("document.activeElement.dataset.reply") == tab.page.get_attribute(
            "#drill-prompts button >> nth=1", "data-reply"
        )
        tab.page.focus(".round[aria-checked=true]")
        before = int(tab.page.get_attribute(".round[aria-checked=true]", "data-round"))
        tab.page.keyboard.press("ArrowRight")
        after = int(tab.page.get_attribute(".round[aria-checked=true]", "data-round"))
        assert after == (before + 1) % tab.page.locator(".round").count()
        assert tab.page.evaluate("document.activeElement.dataset.round") == str(after)
        assert f"Round {after + 1} of" in tab.page.inner_text("#drill-chain")


def test_hostile_names_are_shown_as_text(chromium: Any, files: dict[str, str]) -> None:
    with Tab(chromium, files["drifting"]) as tab:
        names = tab.page.locator("#drill-prompts button").all_inner_texts()
        assert {"<script>alert(1)</script>", "\\u202egnp.exe"} <= set(names)


def test_a_term_is_explained_on_focus_and_on_hover_until_escape(chromium: Any, files: dict[str, str]) -> None:
    with Tab(chromium, files["drifting"]) as tab:
        tab.page.keyboard.press("Tab")
        tab.page.focus(".keys a.term")
        tab.page.wait_for_selector("#tip:not([hidden])")
        assert "bonus token included" in tab.page.inner_text("#tip")
        assert tab.page.get_attribute(".keys a.term >> nth=0", "aria-describedby") == "tip"
        tab.page.keyboard.press("Escape")
        assert tab.page.is_hidden("#tip")
        tab.page.hover(".lead a.term >> nth=0")
        tab.page.wait_for_selector("#tip:not([hidden])")


def test_a_chosen_theme_holds_against_that_of_the_system(chromium: Any, files: dict[str, str]) -> None:
    with Tab(chromium, files["drifting"], theme="dark") as tab:
        surface = "getComputedStyle(document.body).backgroundColor"
        dark = tab.page.evaluate(surface)
        tab.page.click("[data-theme-choice=light]")
        assert tab.page.evaluate(surface) != dark
        tab.page.reload()
        assert tab.page.evaluate(surface) != dark


def test_without_scripts_the_numbers_can_still_be_read(chromium: Any, files: dict[str, str]) -> None:
    with Tab(chromium, files["drifting"], script=False) as tab:
        tab.page.click("#figure-guesses summary")
        assert tab.page.is_visible("#figure-guesses table")
        assert not tab.page.is_visible("#figure-guesses .plot")
