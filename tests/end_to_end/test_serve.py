"""`--mode=serve` as a process: it starts, ends in order, and says in one line what it cannot do."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mmdjax
from mmdjax.serving.export import export
from tests.contracts.tiny_models import make
from tests.end_to_end.conftest import refusal
from tests.limits import HANGS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(compiled_in_haste, tmp_path_factory):
    """A folder with the workdir of a run, and its model exported."""
    folder = tmp_path_factory.mktemp("served")
    make(folder / "run", 0.5)
    imputer = mmdjax.Imputer.load(folder / "run")
    export(imputer, folder / "model.mmdjax", draws=2, platforms=("cpu",))
    return folder


def started(*arguments):
    """The process, and the port that it says."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mmdjax.main", "--mode=serve", "--port=0", *arguments],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
    assert found, line + process.stderr.read()
    return process, int(found[1])


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), HANGS).close()
    except OSError:
        return True
    return False


@pytest.mark.parametrize("given", ["--input={}/model.mmdjax", "--workdir={}/run"])
def test_a_signal_ends_it_after_the_requests_that_it_has(model, given):
    process, port = started(given.format(model))
    body = json.dumps({"language": np.ones((2, 8, 8)).tolist()}).encode()
    try:
        with socket.create_connection(("127.0.0.1", port), HANGS) as connection:
            head = "POST /predict HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
            head += f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 100")  # it waits for the body
            process.send_signal(signal.SIGTERM)
            while not refuses(port):
                pass
            connection.sendall(body)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert answer.status == 200 and len(json.loads(answer.read())["mean"]) == 2
        told = process.communicate(timeout=HANGS)[1]
        assert process.returncode == 0 and told == ""
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--input is missing", "--mode=export"]),
        (["--input=M/model.mmdjax", "--workdir=M/run"], ["--input and --workdir", "one of them"]),
        (["--input=M/model.mmdjax", "--draws=3"], ["--draws=3", "--workdir"]),
        (["--input=M/none.mmdjax"], ["none.mmdjax", "No such file"]),
        (["--input=M/text"], ["text", "is no model", "--mode=export"]),
        (["--input=M/model.mmdjax", "--port=99999"], ["port", "99999", "65535"]),
        (["--input=M/model.mmdjax", "--batch=0"], ["batch", "0"]),
        (["--input=M/model.mmdjax", "--port=TAKEN"], ["--port=TAKEN", "a free port"]),
        (["--input=M/model.mmdjax", "--host=none.invalid"], ["--host=none.invalid", "a free port"]),
        (["--input=M/model.mmdjax", "--examples=M/text"], ["M/text", ".npz or .json"]),
        (["--input=M/model.mmdjax", "--examples=M/other.npz"], ["keys tone", "language, acoustic"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(arguments, words, model, command, tmp_path):
    (model / "text").write_text("no model")
    np.savez(model / "other.npz", tone=np.ones((2, 3)))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        places = [("M/", f"{model}/"), ("TAKEN", port)]
        for old, new in places:
            arguments = [a.replace(old, new) for a in arguments]
            words = [w.replace(old, new) for w in words]
        message = refusal(command("--mode=serve", *arguments), tmp_path / "none")
    assert all(word in message for word in words), message


@pytest.mark.parametrize("package", ["uvicorn", "starlette.applications", "prometheus_client"])
def test_a_missing_package_is_told_with_the_extra_that_has_it(
    package, model, command, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "mmdjax.serving.http.app", raising=False)
    message = refusal(command("--mode=serve", f"--input={model}/model.mmdjax"), tmp_path / "none")
    assert package in message and "pip install 'mmdjax[serve]'" in message
