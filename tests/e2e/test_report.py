"""The page of the fleet's report in a real Chromium; test_chain runs the playbook against a real node.

KUBEGPU_REPORT_PICTURES names a folder for the screenshots; otherwise they are made and thrown away.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import browser
from tests.sim.cluster.use import wait_for
from tests.unit.plugins.report import fleet_samples

PROGRAM = browser.find()
in_browser = pytest.mark.skipif(
    PROGRAM is None or shutil.which("cc") is None,
    reason="no Chromium or no C compiler: 'tests/demo/prepare.sh tools browser' installs them on Debian and Ubuntu",
)
SHOWN = "document.querySelectorAll('#nodes tbody tr:not([data-out])').length"
COLUMN = "Array.from(document.querySelectorAll('#nodes tbody tr')).map(row => row.cells[{}].textContent.trim())"
# WCAG 2.1, contrast of text with the nearest background that is not transparent
CONTRAST = """
(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = color.slice(0, 3).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const poor = new Map();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    if (!element.getClientRects().length) continue;
    const [one, other] = [light(parse(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) poor.set(element.outerHTML.slice(0, 80), ratio);
  }
  return Array.from(poor);
})()
"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    assert PROGRAM is not None
    opened = browser.Browser(PROGRAM, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the simulated fleet of twelve nodes."""
    path = tmp_path_factory.mktemp("report") / "fleet.html"
    fleet_samples.write(path)
    return path


@pytest.fixture
def view(tab: browser.Browser, page: Path) -> browser.Browser:
    tab.call("Emulation.setScriptExecutionDisabled", value=False)
    tab.media()
    tab.size(1440, 900)
    tab.open(page)
    tab.run("localStorage.clear()")
    tab.open(page)
    return tab


def complaints(tab: browser.Browser) -> list[Any]:
    """Errors, violations of the page's policy, and requests other than that for the page itself."""
    found: list[Any] = []
    for method, parameters in tab.events:
        if method in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
            found.append(parameters)
        elif method == "Network.requestWillBeSent" and parameters.get("type") != "Document":
            found.append(parameters["request"]["url"])
    return found


@in_browser
def test_the_page_loads_nothing_and_complains_of_nothing(view: browser.Browser) -> None:
    assert view.run("document.title") == "GPU fleet"
    assert view.run(SHOWN) == 12
    assert complaints(view) == []


@in_browser
def test_pictures_light_dark_narrow_and_print(view: browser.Browser, tmp_path: Path) -> None:
    folder = Path(os.environ.get("KUBEGPU_REPORT_PICTURES", tmp_path))
    light = view.picture(folder / "report-light.png")
    view.media("dark")
    dark = view.picture(folder / "report-dark.png")
    view.media("dark", "print")
    printed = view.picture(folder / "report-print.png")
    assert view.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)", "paper is white"
    view.media()
    view.size(390, 844)
    narrow = view.picture(folder / "report-narrow.png")
    assert len({light, dark, printed, narrow}) == 4
    assert all(len(picture) > 20_000 for picture in (light, dark, printed, narrow)), "something is on each of them"


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["screen", "print"])
def test_text_can_be_read(view: browser.Browser, scheme: str, kind: str) -> None:
    view.media(scheme, kind)
    view.run("document.querySelectorAll('details').forEach((item) => { item.open = true; })")
    assert view.run(CONTRAST) == []


@in_browser
@pytest.mark.parametrize("width", [320, 390, 768, 1024, 1440, 1920])
def test_the_page_itself_never_scrolls_sideways(view: browser.Browser, width: int) -> None:
    view.size(width, 800)
    view.run("document.querySelectorAll('details').forEach((item) => { item.open = true; })")
    assert view.run("document.scrollingElement.scrollWidth") <= width


@in_browser
def test_the_theme_follows_the_system_and_the_button(view: browser.Browser, page: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = view.run(ground)
    view.media("dark")
    dark = view.run(ground)
    assert light != dark
    assert view.run("document.getElementById('theme').textContent") == "Light"
    view.run("document.getElementById('theme').click()")
    assert view.run(ground) == light
    view.open(page)
    assert view.run(ground) == light, "the choice is remembered"
    assert complaints(view) == []


@in_browser
def test_the_filter_by_keyboard(view: browser.Browser) -> None:
    view.press("/", 191, "/")
    assert view.run("document.activeElement.id") == "filter"
    assert view.run("document.activeElement.value") == ""
    view.call("Input.insertText", text="broken H100")
    assert view.run(SHOWN) == 2
    assert view.run("document.getElementById('matches').textContent") == "2 nodes"
    assert view.run("document.querySelectorAll('#details details:not([data-out])').length") == 2
    assert view.run("getComputedStyle(document.querySelector('#nodes tr[data-out]')).display") == "none"
    view.press("Escape", 27)
    assert view.run(SHOWN) == 12
    assert view.run("document.getElementById('matches').textContent") == ""


@in_browser
def test_sorting_by_keyboard(view: browser.Browser) -> None:
    names = view.run(COLUMN.format(0))
    view.run("document.querySelector('#nodes thead th button').focus()")
    view.press("Enter", 13, "\r")
    assert view.run("document.querySelector('#nodes thead th').getAttribute('aria-sort')") == "ascending"
    assert view.run(COLUMN.format(0)) == names
    view.press("Enter", 13, "\r")
    assert view.run("document.querySelector('#nodes thead th').getAttribute('aria-sort')") == "descending"
    assert view.run(COLUMN.format(0)) == names[::-1]
    view.run("document.querySelectorAll('#nodes thead th button')[1].click()")
    assert [words.split()[-1] for words in view.run(COLUMN.format(1))][:2] == ["unreachable", "broken"]
    assert view.run("document.querySelectorAll('#nodes thead th[aria-sort]').length") == 1


@in_browser
def test_everything_can_be_reached_with_the_tabulator(view: browser.Browser) -> None:
    view.press("Tab", 9)
    assert view.run("document.activeElement.className") == "skip"
    seen = set()
    for _ in range(40):
        view.press("Tab", 9)
        seen.add(view.run("document.activeElement.id || document.activeElement.localName"))
        assert view.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert {"filter", "theme", "a", "button", "div"} <= seen


@in_browser
def test_a_link_opens_the_node_and_printing_opens_all(view: browser.Browser) -> None:
    assert view.run("document.getElementById('node-1').open") is False
    view.run("document.querySelector('#nodes a[href=\"#node-1\"]').click()")
    wait_for("the node's details", lambda: view.run("document.getElementById('node-1').open"), 10)
    view.run("window.dispatchEvent(new Event('beforeprint'))")
    assert view.run("document.querySelectorAll('details:not([open])').length") == 0
    view.run("window.dispatchEvent(new Event('afterprint'))")
    assert view.run("document.querySelectorAll('details:not([open])').length") > 0
    assert view.pdf().startswith(b"%PDF-")


@in_browser
def test_without_scripts_everything_is_there(view: browser.Browser, page: Path) -> None:
    words = view.run("document.querySelector('main').textContent")
    view.call("Emulation.setScriptExecutionDisabled", value=True)
    view.open(page)
    assert view.run("document.querySelector('main').textContent") == words
    assert view.run("getComputedStyle(document.querySelector('.tools')).display") == "none"


@in_browser
def test_two_hundred_nodes(view: browser.Browser, tmp_path: Path) -> None:
    fleet_samples.write(tmp_path / "large.html", 200)
    view.open(tmp_path / "large.html")
    assert view.run(SHOWN) == 200
    assert view.run("document.querySelectorAll('#attention tbody tr').length") < 150
    view.press("/", 191, "/")
    view.call("Input.insertText", text="gpu-007")
    assert view.run("document.getElementById('matches').textContent") == "1 node"
    assert complaints(view) == []


@in_browser
def test_hostile_words_run_nothing(view: browser.Browser, tmp_path: Path) -> None:
    from ansible_collections.kubegpu.nvidia.plugins.filter.fleet_report import fleet_report
    from ansible_collections.kubegpu.nvidia.plugins.filter.fleet_report_page import fleet_report_page

    words = (
        '"><img src=x onerror="window.caught=1"><script>window.caught=1</script><a href="javascript:window.caught=1">'
    )
    hosts = {words: {"unreachable": words}, "b": {"gpu_error": words, "node_name": words}}
    html = fleet_report_page(
        fleet_report(hosts, {"asked": False}, words), fleet_samples.STYLE, fleet_samples.SCRIPT, words
    )
    path = tmp_path / "hostile.html"
    path.write_text(html, encoding="utf-8")
    view.open(path)
    assert view.run("document.title") == words
    assert view.run("window.caught === undefined && document.images.length === 0")
    assert complaints(view) == []
    # and if something did get out, the page's own policy would stop it
    path.write_text(html.replace("<main", "<script>window.caught=1</script><main", 1), encoding="utf-8")
    view.open(path)
    assert view.run("window.caught === undefined")
    assert any("Content Security Policy" in str(complaint) for complaint in complaints(view))
