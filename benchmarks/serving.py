"""Answers over HTTP: how many a second, and how long one takes, by the number of clients.

Command: python -m benchmarks.serving --workdir=DIR [--smoke]
Time: ten minutes on two cores.

A server, `--mode=serve`, answers clients on the same machine, which share its cores. Each client
keeps one connection and asks again as soon as it is answered: POST /predict, one utterance of which
two modalities are missing, as .npz, K = 8 draws. `batch` is how many utterances a call of the model
has room for; utterances a call is how many it had. Parameters are random: they change no time.
"""

from __future__ import annotations

import http.client
import io
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks import cold_start, common
from mmdjax.evaluation.figures import INK, QUIET

CLIENTS = (1, 8, 64)
BATCHES = {1: "#9db8d2", 8: "#2a6fb0"}
REQUESTS = 512
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@contextmanager
def server(model: Path, batch: int) -> Iterator[int]:
    """Start a server of a model, yield its port, and stop it."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mmdjax.main", "--mode=serve", f"--input={model}"),
            *("--port=0", f"--batch={batch}", "--timeout=600"),
        ],
        cwd=Path(__file__).parents[1],
        env=os.environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    found = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
    if found is None:
        raise SystemExit("the server did not start")
    try:
        yield int(found[1])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def ask(port: int, body: bytes, clients: int, requests: int) -> tuple[list[float], float]:
    """Return the seconds of each request, and of all of them together."""
    tickets, seconds, failed = itertools.count(), [], []

    def client():
        connection = http.client.HTTPConnection("127.0.0.1", port)
        headers = {"Content-Type": "application/x-npz"}
        while next(tickets) < requests and not failed:
            started = time.perf_counter()
            connection.request("POST", "/predict", body, headers)
            answer = connection.getresponse()
            answer.read()
            seconds.append(time.perf_counter() - started)
            if answer.status != 200:
                failed.append(answer.status)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed or len(seconds) != requests:
        raise SystemExit(f"{requests - len(seconds)} requests without an answer, status {failed}")
    return seconds, time.perf_counter() - started


def counted(port: int) -> tuple[float, float]:
    """Return utterances and calls so far, as the server counts them."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    names = ("mmdjax_call_utterances_sum", "mmdjax_call_utterances_count")
    return tuple(float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1]) for name in names)


def measure(name: str, folder: Path, requests: int) -> list[dict]:
    """Rows {config, batch, clients, a second, p50, p95, p99 in ms, utterances a call}."""
    folder.mkdir(parents=True, exist_ok=True)
    file, rows = folder / "model.mmdjax", []
    file.unlink(missing_ok=True)
    modality, body = cold_start.publish(name, folder), io.BytesIO()
    np.savez(body, **{modality: np.load(folder / "row.npy")})
    for batch in BATCHES:
        with server(file, batch) as port:
            ask(port, body.getvalue(), 1, 2)
            for clients in CLIENTS:
                before = counted(port)
                seconds, total = ask(port, body.getvalue(), clients, requests)
                utterances, calls = np.subtract(counted(port), before)
                row = {"config": name, "batch": batch, "clients": clients, "requests": requests}
                row |= {"per_second": requests / total, "utterances_per_call": utterances / calls}
                times = np.quantile(seconds, list(SHARES.values())) * 1000
                rows.append(row | dict(zip(SHARES, times.tolist(), strict=True)))
    return rows


def picture(rows: list[dict]) -> Figure:
    """A panel a config: latency by clients."""
    names = list(dict.fromkeys(row["config"] for row in rows))
    figure = Figure(figsize=(4.4 * len(names), 3.4), layout="constrained", facecolor="white")
    for ax, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        for batch, hue in BATCHES.items():
            these = [r for r in rows if (r["config"], r["batch"]) == (name, batch)]
            for share, style in (("p50", "-"), ("p99", ":")):
                label = f"{share}, batch {batch}"
                values = [r[share] for r in these]
                ax.plot(range(len(CLIENTS)), values, style, color=hue, marker="o", label=label)
        ax.set_xticks(range(len(CLIENTS)), [str(n) for n in CLIENTS])
        ax.set_yscale("log")
        ax.set_title(name, loc="left", color=INK, fontsize=10.5)
        ax.set_xlabel("clients", color=QUIET)
        ax.set_ylabel("milliseconds", color=QUIET)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(colors=INK)
    ax.legend(frameon=False, fontsize=9)
    return figure


def main() -> None:
    options = common.parse(common.parser(__doc__))
    from mmdjax.runtime.machine import machine

    names = ["synthetic"] if options.smoke else cold_start.CONFIGS
    requests, rows = 64 if options.smoke else REQUESTS, []
    for name in names:
        rows += measure(name, options.workdir / name, requests)
    result = {
        "title": "Answers over HTTP",
        "command": common.command_line("serving"),
        "machine": machine(),
        "rows": rows,
    }
    header = ["config", "batch", "clients", "answers a second", "utterances a call"]
    header += [f"{share} (ms)" for share in SHARES]
    body = [
        [
            *(r["config"], str(r["batch"]), str(r["clients"]), f"{r['per_second']:.1f}"),
            *(f"{r['utterances_per_call']:.1f}", *(f"{r[share]:.1f}" for share in SHARES)),
        ]
        for r in rows
    ]
    about = " ".join(__doc__.split("\n\n")[2].split())
    sections = [about, (f"{requests} requests each", header, body)]
    common.write(options.workdir, "serving", result, sections, picture(rows))
    print((options.workdir / "serving.md").read_text())


if __name__ == "__main__":
    sys.exit(main())
