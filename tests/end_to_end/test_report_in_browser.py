"""Reports as a headless Chromium shows them: nothing fails, nothing is fetched, tables sort, and
charts answer to the pointer.

Skipped where no Chromium or Chrome is on the PATH.
"""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from mmdjax.config import Comparison
from mmdjax.evaluation import figures, tables
from mmdjax.evaluation.tables import Shown
from tests.limits import HANGS
from tests.protocols.report_rows import (
    DRAWS,
    HISTORY,
    MEAN,
    PATTERNS,
    SYSTEMS,
    averaging,
    full_run,
    row,
    write,
)

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(NAMES)} on the PATH")
HOSTILE = '<script>document.documentElement.dataset.obeyed = "1"</script><b>"&amp;'

LISTEN = """<script>
const failures = [];
addEventListener("error", e => failures.push(e.message || e.target.outerHTML.slice(0, 80)), true);
</script>"""
# Clicks every header twice, and writes down what stands where after each click.
PROBE = """<script>
addEventListener("load", () => {
  const cells = table => [...table.tBodies[0].rows].map(r => [...r.cells].map(c => c.textContent));
  const tables = [...document.querySelectorAll("table")].map(table => {
    const found = {caption: table.caption.textContent, before: cells(table), columns: []};
    for (const th of table.tHead.rows[0].cells) {
      const button = th.querySelector("button"), column = {head: th.textContent, clicks: []};
      if (button.tabIndex === 0) button.focus();
      column.reached = document.activeElement === button && button.tagName === "BUTTON";
      for (const _ of [0, 1]) {
        document.activeElement.click();
        const sorted = [...table.querySelectorAll("[aria-sort]")];
        const said = sorted.map(other => [other === th, other.getAttribute("aria-sort")]);
        column.clicks.push({said, cells: cells(table)});
      }
      found.columns.push(column);
    }
    return found;
  });
  // The pointer goes to the first mark of each chart that is shown, then to a name that hides it.
  const charts = [...document.querySelectorAll(".chart svg")].filter(s => s.clientWidth);
  const told = charts.filter(svg => svg.querySelector("[data-tip]")).map(svg => {
    const mark = svg.querySelector("[data-tip]"), of = mark.dataset.of;
    const shape = (mark.querySelector("use") || mark).getBoundingClientRect();
    const x = shape.x + shape.width / 2, y = shape.y + shape.height / 2;
    svg.dispatchEvent(new PointerEvent("pointerenter"));
    svg.dispatchEvent(new PointerEvent("pointermove", {clientX: x, clientY: y}));
    const tip = document.querySelector(".tip"), text = tip.hidden ? "" : tip.textContent;
    svg.dispatchEvent(new PointerEvent("pointerleave"));
    const figure = svg.closest("figure"), named = [...figure.querySelectorAll("[data-of]")];
    const name = named.find(e => e.dataset.of === of && e.onclick);
    const seen = [getComputedStyle(mark).visibility];
    for (const _ of [0, 1]) {
      name.dispatchEvent(new MouseEvent("click"));
      seen.push(getComputedStyle(mark).visibility);
    }
    return {of, text, seen, gone: tip.hidden};
  });
  const look = (name, of, part) => {
    const element = document.querySelector(name);
    return element && getComputedStyle(element, part)[of];
  };
  document.body.dataset.probe = JSON.stringify({
    failures, tables, told, sortable: look("th button", "content", "::after"),
    ink: look(".chart text", "fill"), paper: look("body", "backgroundColor"),
    narrow: charts.every(svg => svg.closest(".narrow")),
    wide: charts.every(svg => svg.closest(".wide")),
    contents: [...document.querySelectorAll("nav a")].map(
      a => !!document.getElementById(a.getAttribute("href").slice(1))),
    title: document.title, heading: document.querySelector("h1").textContent,
    text: document.body.innerText, page: document.body.textContent,
    scripts: document.scripts.length, obeyed: document.documentElement.dataset.obeyed || "",
    images: [...document.images].map(i => i.naturalWidth),
    fetched: performance.getEntriesByType("resource").map(e => e.name),
    links: [...document.querySelectorAll("[src], [href]")].map(
      e => e.getAttribute("src") || e.getAttribute("href")),
    tooWide: document.documentElement.scrollWidth - innerWidth,
  });
});
</script></body>"""


class Body(HTMLParser):
    probe = None

    def handle_starttag(self, tag, attrs):
        self.probe = self.probe or dict(attrs).get("data-probe")


def shown(page, folder, *flags, size="1200,900") -> dict:
    """What the browser makes of a page, with 'console': its messages of any level."""
    start, _, end = page.read_text().rpartition("</body>")
    watched = folder / f"{page.parent.name}.html"
    watched.write_text(start.replace("<head>", f"<head>{LISTEN}", 1) + PROBE + end)
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-dev-shm-usage", "--disable-extensions", "--enable-logging=stderr"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--window-size={size}", *flags]
    command += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=3000", "--dump-dom"]
    done = subprocess.run(
        [*command, watched.as_uri()], capture_output=True, text=True, timeout=HANGS, check=True
    )
    body = Body()
    body.feed(done.stdout)
    assert body.probe, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(body.probe) | {"console": console}


def plain(folder):
    rows = full_run() + averaging(HOSTILE, 0.5, 0.6)  # without MAE: a dash
    rows += [row(DRAWS, p, 0, 8.0, "nfe", "cost") for p in PATTERNS[:-1]]
    return write(
        folder,
        rows,
        systems=(*SYSTEMS, Shown(HOSTILE, "zero")),
        title=HOSTILE,
        config={"data": {"path": HOSTILE}},
        machine={"device": HOSTILE},
        history={"score, seed 0": HISTORY["score"]},
        notes=[HOSTILE],
    )


def of_systems(folder):
    """Two systems that draw and were timed, one that fills, two seeds, published tables."""
    systems = (
        Shown("DDIM 30", "two_stage", "Speed", draws=True, k=8),
        Shown(HOSTILE, "two_stage", "IMDer", draws=True, k=8),
        Shown("zeros", "zero"),
    )
    rows, costs = [], {}
    for i, system in enumerate(systems):
        rows += averaging(system, 0.7 - 0.2 * i, 0.71 - 0.2 * i)
        for s in (0, 1):
            rows += [row(system, r, s, 0.7 + 0.01 * i, protocol="random") for r in ("0.0", "0.5")]
            rows.append(row(system, "l>a", s, 0.1 * (i + s), "energy_distance", "imputation"))
            rows.append(row(system, "score networks", s, 12.3 * (i + 1), "seconds", "cost"))
        if system.draws:
            costs[system.name] = {"nfe": 30 * (i + 1), "seconds": 2.5 + i, "parameters": 4e5}
            costs[system.name] |= {"quartiles": [2.4 + i, 2.6 + i], "batch": 128}
    return write(
        folder,
        rows,
        systems=systems,
        title="Several",
        comparison=Comparison(tables=("thesis 6.11", "thesis 6.3")),
        costs=costs,
        history={},
    )


def of_conversations(folder):
    systems = (Shown("GSDNet, K = 8", "gsdnet", "GSDNet", draws=True, k=8),)
    systems += (Shown("GSDNet, dense, K = 8", "gsdnet", draws=True, k=8), MEAN)
    rows = averaging(systems[0], 0.7, 0.72) + averaging(systems[1], 0.68, 0.75)
    rows += averaging(MEAN, 0.9, 0.95, metric="mae")  # nothing else has it: dashes
    rows = [r | {"condition": r["condition"].replace("v", "t")} for r in rows]
    rows += [row(MEAN, r, 0, 0.6, protocol="random") for r in ("0.0", "0.7")]
    graphs = [("table", "What is kept", ["modality", "DFT (%)"], [["language", "61.0"]])]
    graphs.append(("figure", "graph_noise", "A graph."))
    return write(
        folder,
        rows,
        systems=systems,
        modalities=("language", "acoustic", "timing"),
        title="GSDNet",
        config={"method": "gsdnet", "text": HOSTILE, "graph": {"published": "MOSI"}},
        history={},
        notes=[],
        sections=[("Graphs", graphs)],
        figures={"graph_noise": (figures.loss_curves(HISTORY), "A graph.")},
    )


PAGES = {"plain": plain, "comparison": of_systems, "conversations": of_conversations}
IMAGES = {"plain": 0, "comparison": 0, "conversations": 1}


@pytest.fixture(scope="module", params=PAGES)
def page(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    written = PAGES[request.param](folder / request.param)
    return shown(written, folder) | {"kind": request.param}


def test_the_page_is_whole(page):
    assert page["title"] == page["heading"] != ""
    assert len(page["tables"]) >= 4
    assert all(table["before"] and table["caption"] for table in page["tables"])
    assert len(page["images"]) == IMAGES[page["kind"]]
    assert all(width > 300 for width in page["images"])
    assert "Configuration" in page["text"] and '"method"' not in page["text"]  # folded
    assert page["tooWide"] <= 0  # wide tables scroll by themselves
    assert len(page["contents"]) >= 4 and all(page["contents"])
    assert "▴" in page["sortable"] and "▾" in page["sortable"]


def test_charts_tell_values_and_names_hide_what_they_name(page):
    assert page["wide"] and len(page["told"]) >= 3
    for chart in page["told"]:
        assert chart["text"].startswith(chart["of"]) and re.search(r"\d", chart["text"])
        assert chart["gone"] and chart["seen"] == ["visible", "hidden", "visible"]


def test_a_small_dark_window_has_small_dark_charts(tmp_path):
    written = of_systems(tmp_path / "small")
    dark = shown(written, tmp_path, "--blink-settings=preferredColorScheme=0", size="600,900")
    assert dark["failures"] == [] and dark["tooWide"] <= 0 and dark["narrow"]
    light = shown(written, tmp_path, "--blink-settings=preferredColorScheme=1", size="600,900")
    brightness = [sum(map(int, re.findall(r"\d+", look[of])[:3]))
                  for look in (dark, light) for of in ("ink", "paper")]  # fmt: skip
    assert brightness[0] > brightness[1] + 200 and brightness[3] > brightness[2] + 200


def test_nothing_fails_and_nothing_is_fetched(page):
    assert page["failures"] == [] and page["console"] == []
    assert [name for name in page["fetched"] if not name.startswith("data:")] == []
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page["links"])


def keys(cells: list[str]) -> list:
    """What a column is sorted by: the numbers that cells begin with, or words where there are none.

    Words with signs are left out: a browser's alphabet is its own affair."""
    numbers = [re.match(r"[+-]?\d+(\.\d+)?", cell) for cell in cells]
    if cells and all(numbers):
        return [float(found[0]) for found in numbers]
    plain = [c.casefold() for c in cells if re.fullmatch("[A-Za-z0-9 ]+", c)]
    natural = [re.sub(r"\d+", lambda found: found[0].zfill(6), c) for c in plain]
    return [re.sub("[^a-z0-9]", "", c) for c in natural]


def test_a_header_sorts_one_way_and_then_the_other(page):
    seen = dict.fromkeys((" ± ", tables.MISSING, "a"), 0)
    for table in page["tables"]:
        for place, column in enumerate(table["columns"]):
            about, directions = (table["caption"], column["head"]), []
            assert column["reached"], about  # by the Tab key; Enter and Space press a button
            for click in column["clicks"]:
                (is_this, direction), *others = click["said"]
                assert is_this and not others, about
                directions.append(direction)
                assert sorted(click["cells"]) == sorted(table["before"]), about  # rows stay whole
                cells = [cells[place] for cells in click["cells"]]
                told = [c for c in cells if c != tables.MISSING]
                assert cells == told + [tables.MISSING] * (len(cells) - len(told)), about
                found = keys(told)
                assert found == sorted(found, reverse=direction == "descending"), about
                for text in seen:
                    seen[text] += len(set(cells)) > 1 and any(text in c for c in cells)
            assert sorted(directions) == ["ascending", "descending"], about
            told = column["head"] + table["caption"]
            if not any(row[place] != tables.MISSING for row in table["before"]):
                continue
            if place == 0 or "↓" in told or "↑" in told:  # the better end first
                assert (directions[0] == "ascending") == (place == 0 or "↓" in told), about
    assert all(seen.values()), seen


def test_markup_in_names_and_values_is_shown_and_not_obeyed(page):
    assert page["obeyed"] == ""
    assert page["scripts"] == 3  # the report's own, and two of this test
    assert HOSTILE in page["page"].replace('\\"', '"')
    if page["kind"] != "conversations":
        assert any(HOSTILE in (r[0] for r in table["before"]) for table in page["tables"])


def test_the_browser_tells_of_a_page_that_is_broken(tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "report.html").write_text(
        "<html><head><title>t</title></head><body><h1>t</h1>"
        '<img src="http://example.org/a.png"><script>undefinedName()</script></body></html>'
    )
    found = shown(folder / "report.html", tmp_path)
    assert found["images"] == [0] and found["links"] == ["http://example.org/a.png"]
    assert any("undefinedName" in text for text in found["failures"])
    assert any("undefinedName" in line for line in found["console"])
    assert found["fetched"] == ["http://example.org/a.png"]
