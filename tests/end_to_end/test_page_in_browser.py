"""The page of `--mode=serve` in a headless Chromium, on a wide window and on a phone.

Skipped where no Chromium or Chrome is on the PATH.
"""

import json
import subprocess
import threading

import jax
import numpy as np
import pytest
import uvicorn
from starlette.responses import HTMLResponse
from starlette.routing import Route

from mmdjax.data.sources import synthetic
from mmdjax.serving.http import app, examples
from tests.contracts.test_http import SETTINGS, exported
from tests.end_to_end.test_report_in_browser import BROWSER, HOSTILE, NAMES, Body
from tests.limits import HANGS

pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(NAMES)} on the PATH")
FRAME = '<body><iframe src="/probed" style="border: 0; width: {}px; height: 900px"></iframe></body>'
# Does what a person would, and writes down what is to be seen after each step.
PROBE = """<script>
const failures = [], steps = [];
addEventListener("error", e => failures.push(e.message));
addEventListener("load", async () => {
  const rest = () => new Promise(done => setTimeout(done, 20));
  const settled = async () => { do await rest(); while (asking || again); await rest(); };
  const press = key => document.activeElement.dispatchEvent(
    new KeyboardEvent("keydown", {key, bubbles: true}));
  const count = css => document.querySelectorAll(css).length;
  const step = async name => {
    await settled();
    steps.push({name, prediction: at("prediction").textContent, status: at("status").textContent,
      vision: count("#charts-vision .draw"), acoustic: count("#charts-acoustic .draw"),
      truth: count("#charts-acoustic .truth"),
      gaps: count("#charts-acoustic figure:first-child .gap"),
      bad: at("status").classList.contains("bad")});
  };
  while (!answer) await rest();
  await step("start");
  at("on-vision").click(); await step("everything");
  const cells = [...document.querySelectorAll("#frames-acoustic button")];
  cells[0].focus(); press("ArrowRight"); press(" ");
  const focused = cells.indexOf(document.activeElement);
  await step("a frame less");
  at("again").click(); await step("drawn again");
  for (const m of ["language", "acoustic", "vision"]) at(`on-${m}`).click();
  await step("nothing");
  at("all").click(); document.querySelectorAll("#examples input")[1].click(); await step("another");
  const unnamed = [...document.querySelectorAll("input, button")].filter(e =>
    !(e.ariaLabel || e.title || e.textContent || e.labels?.[0]?.textContent.trim()));
  parent.document.body.dataset.probe = JSON.stringify({failures, steps,
    ids: [...document.querySelectorAll("#examples span")].map(e => e.textContent),
    focused, obeyed: document.documentElement.dataset.obeyed || "", unnamed: unnamed.length,
    fetched: performance.getEntriesByType("resource").map(e => new URL(e.name).pathname),
    tooWide: document.documentElement.scrollWidth - innerWidth});
});
</script></body>"""


@pytest.fixture(scope="module")
def server(compiled_in_haste, tmp_path_factory):
    """The address of a model with two examples, the second of a hostile name."""
    folder = tmp_path_factory.mktemp("page")
    with jax.debug_nans(False):
        model = exported(folder)
        columns = {m: x[:2] for m, x in synthetic.read(1, 1, 2, 0)["test"].features.items()}
        columns |= {"id": np.array(["first", HOSTILE]), "label": np.array([1.5, np.nan])}
        made = app.make(model, SETTINGS, examples.of_columns(model, columns))
        page = app._page().replace("</body>", PROBE)
        made.router.routes += [
            Route("/probed", lambda _: HTMLResponse(page)),
            Route("/{width:int}", lambda r: HTMLResponse(FRAME.format(r.path_params["width"]))),
        ]
        running = uvicorn.Server(uvicorn.Config(made, port=0, log_level="warning"))
        listener = running.config.bind_socket()
        thread = threading.Thread(target=running.run, args=([listener],))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        running.should_exit = True
        thread.join()


def opened(url: str, folder) -> tuple[str, list[str]]:
    """The document that a page has become, and messages of the console."""
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-dev-shm-usage", "--disable-extensions", "--enable-logging=stderr"]
    command += [f"--user-data-dir={folder}", "--window-size=1300,950"]
    command += ["--virtual-time-budget=20000", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module", params=[390, 1200])
def page(request, server, tmp_path_factory):
    document, console = opened(f"{server}/{request.param}", tmp_path_factory.mktemp("profile"))
    body = Body()
    body.feed(document)
    assert body.probe, document
    return json.loads(body.probe) | {"console": console, "width": request.param}


def test_its_security_policy_allows_what_it_does(server, tmp_path):
    document, console = opened(f"{server}/", tmp_path)
    assert console == [] and 'class="number"' in document and document.count("<figure>") == 9


def test_nothing_fails_and_only_the_server_is_asked(page):
    assert page["failures"] == [] and page["console"] == [] and page["tooWide"] <= 0
    assert set(page["fetched"]) == {"/health", "/examples", "/impute"}
    assert page["unnamed"] == 0  # for those who hear the page


def test_what_is_switched_off_is_drawn_and_the_prediction_moves(page):
    start, everything, less, again, nothing, another = page["steps"]
    shown = 2 if page["width"] < 400 else 3  # channels, of two draws each
    assert (start["vision"], start["acoustic"]) == (2 * shown, 0)
    assert (everything["vision"], everything["acoustic"]) == (0, 0)
    assert (less["acoustic"], less["truth"], less["gaps"]) == (2 * shown, shown, 1)
    told = [step["prediction"] for step in (start, everything, less, again)]
    assert len(set(told)) == 4 and all("label ◇ 1.5" in text for text in told)
    assert page["focused"] == 1 and "seed 1" in again["status"]
    assert nothing["bad"] and "At least one frame" in nothing["status"]
    assert another["prediction"] and "◇" not in another["prediction"]


def test_names_are_text(page):
    assert page["ids"] == ["first", HOSTILE] and page["obeyed"] == ""
