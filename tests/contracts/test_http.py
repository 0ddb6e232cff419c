"""A model over HTTP: what it answers, in which form, and what it refuses."""

import concurrent.futures
import io
import json
import threading
import zipfile

import jax
import numpy as np
import pytest
from starlette.testclient import TestClient

import mmdjax
from mmdjax.data.sources import synthetic
from mmdjax.serving.export import export
from mmdjax.serving.http import app, bodies, examples, start
from mmdjax.serving.http.settings import Settings
from mmdjax.tasks.classification import Classification

from .tiny_models import NAMES, make

SETTINGS = Settings("127.0.0.1", 0, None, 4, 0.0, 600.0, 2**20, 32)
AS_JSON = {"Content-Type": "application/json"}
AS_NPZ = {"Content-Type": "application/x-npz"}


@pytest.fixture(autouse=True)
def nan_says_missing():
    with jax.debug_nans(False):
        yield


def exported(folder, **changes):
    make(folder, 0.5, **changes)
    file = folder / "model.mmdjax"
    export(mmdjax.Imputer.load(folder), file, draws=2, platforms=("cpu",))
    return start.load(file, SETTINGS)


@pytest.fixture(scope="module")
def model(compiled_in_haste, tmp_path_factory):
    return exported(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def features():
    """Six utterances; 1 and 2 lack vision, 3 some frames of acoustic, and language ends early."""
    made = {m: x.copy() for m, x in synthetic.read(1, 1, 6, 0)["test"].features.items()}
    made["vision"][1:3] = np.nan
    made["acoustic"][3, 2:5] = np.nan
    made["language"][4, 6:] = 0
    return made


def client(model, shown=(), **changes):
    return TestClient(app.make(model, SETTINGS._replace(**changes), list(shown)))


def packed(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def as_json(features) -> str:
    """Utterances with null for NaN, without the zeros that end them."""
    columns = {m: [x[: 6 if m == "language" and i == 4 else None] for i, x in enumerate(a)]
               for m, a in features.items()}  # fmt: skip
    return json.dumps({m: [bodies.plain(x) for x in column] for m, column in columns.items()})


def test_both_forms_answer_what_the_model_answers(model, features):
    expected = model(features, seed=5)
    with client(model) as http:
        body = packed(**features, label=np.ones(6))  # as files have it
        npz = http.post("/impute?seed=5", content=body, headers=AS_NPZ)
        plain = http.post("/impute?seed=5", content=as_json(features), headers=AS_JSON)
        mixed = AS_NPZ | {"Accept": "application/json"}
        short = http.post("/predict?seed=5", content=packed(**features), headers=mixed)
    assert npz.headers["content-type"] == "application/x-npz"
    found, answer = np.load(io.BytesIO(npz.content), allow_pickle=False), plain.json()
    for name in ("mean", "low", "high", "draws"):
        np.testing.assert_array_equal(found[name], expected[name])
        np.testing.assert_array_equal(np.array(answer[name], np.float32), expected[name])
        assert short.json()[name] == answer[name]
    assert set(short.json()) == {"mean", "low", "high", "draws", "spread"}
    for m in NAMES:
        np.testing.assert_array_equal(found[f"features/{m}"], expected["features"][m])
        np.testing.assert_array_equal(answer["drawn"][m], expected["drawn"][m])
    assert answer["drawn"]["vision"][1] == [True] * 10


def test_an_answer_is_the_same_to_the_last_bit_whoever_shares_the_call(model, features):
    one = [packed(**{m: x[i : i + 1] for m, x in features.items()}) for i in range(4)]
    post = {"url": "/impute", "headers": AS_NPZ}
    with client(model) as http:
        alone = [http.post(content=body, **post).content for body in one]
    with client(model, wait=1e6) as http, concurrent.futures.ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(http.post, content=body, **post) for body in one]
        together = [each.result().content for each in asked]
        metrics = http.get("/metrics").text
    assert 'mmdjax_call_utterances_bucket{le="2.0"} 0.0' in metrics
    assert "mmdjax_call_utterances_count 1.0" in metrics
    for first, second in zip(alone, together, strict=True):
        first, second = (np.load(io.BytesIO(body)) for body in (first, second))
        assert set(first) == set(second)
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])


def test_what_is_missing_may_be_null_or_not_given(model, features):
    x = [bodies.plain(row) for row in features["language"][:2]]
    bodies_ = [{"language": x}, {"language": x, "vision": None}]
    bodies_.append({"language": x, "vision": [None, None], "acoustic": [[None] * 3] * 2})
    with client(model) as http:
        first, *others = (http.post("/predict", json=body).json() for body in bodies_)
        gaps = [[None, *x[0][1:]], [[None, *x[1][0][1:]], *x[1][1:]]]  # a frame, a number
        drawn = http.post("/impute", json={"language": gaps}).json()["drawn"]["language"]
    assert first["mean"][0] is not None and all(other["mean"] == first["mean"] for other in others)
    assert drawn == [[True] + [False] * 7] * 2


REFUSED = [
    ({"tone": [[[0.0]]]}, 400, ["'tone'", "language, acoustic, vision"]),
    ([], 400, ["a list", "an object"]),
    ({}, 400, ["no modality", "language"]),
    ({"language": [[[1.0, 2.0]]]}, 400, ["language", "(1, 2)", "(8, 8)"]),
    ({"language": [[[1.0] * 8] * 9]}, 400, ["language", "(9, 8)", "(8, 8)"]),
    ({"language": [[["1"] * 8]]}, 400, ["language: utterance 0", "numbers"]),
    ({"language": [[[1.0] * 8, [1.0]]]}, 400, ["language: utterance 0", "numbers"]),
    ({"language": ["word"]}, 400, ["language: utterance 0", "'word'"]),
    ({"language": 3}, 400, ["language", "int"]),
    ({"language": [None]}, 400, ["nothing observed"]),
    ({"language": [[[1e39] * 8]]}, 400, ["language", "inf"]),
    ({"language": [[[1.0] * 8]], "vision": []}, 400, ["[0, 1] rows"]),
    ("{", 400, ["cannot be read"]),
    ('{"language": NaN}', 400, ["NaN is no JSON"]),
    ("[" * 10**5, 400, ["cannot be read"]),
    ({"language": [[[1.0] * 8]] * 33}, 413, ["33 utterances", "at most 32"]),
    ({"language": [[[1.0] * 8] * 8] * 10**4}, 413, ["bytes", f"at most {2**20}"]),
]


@pytest.mark.parametrize(("body", "status", "words"), REFUSED)
def test_a_body_that_does_not_fit_is_refused_in_one_line(model, body, status, words):
    body = body if isinstance(body, str) else json.dumps(body)
    with client(model) as http:
        answer = http.post("/predict", content=body, headers=AS_JSON)
        streamed = http.post("/predict", content=iter([body.encode()]), headers=AS_JSON)
    assert answer.status_code == streamed.status_code == status
    text = answer.json()["error"]
    assert "\n" not in text and all(word in text for word in words), text


def twice(name):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr(name, b"\0" * 100)
    return file.getvalue()


BROKEN = {
    "pickle": (packed(language=np.array([{}], object)), 400, "'language'"),
    "text": (packed(language=np.array(["a"])), 400, "<U1"),
    "shape": (packed(language=np.ones((2, 8))), 400, "(2, 8)"),
    "cut": (packed(language=np.ones((2, 8, 8)))[:-30], 400, "cannot be read"),
    "no zip": (b"language", 400, "zip"),
    "method": (twice("language.npy"), 400, "packed by method 14"),
    "bomb": (packed(language=np.zeros((10**5, 8, 8), np.float32)), 413, "at most 1048576"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_npz_is_refused_in_one_line(model, name):
    body, status, word = BROKEN[name]
    with client(model) as http:
        answer = http.post("/predict", content=body, headers=AS_NPZ)
    text = answer.json()["error"]
    assert answer.status_code == status and word in text and "\n" not in text, text


def test_other_requests_are_told_what_is_allowed(model):
    cases = [
        (("POST", "/predict"), {"Content-Type": "text/csv"}, 415, "application/json"),
        (("POST", "/predict"), AS_JSON | {"Accept": "text/html"}, 406, "application/x-npz"),
        (("POST", "/predict?seed=-1"), AS_JSON, 400, "0 to 4294967295"),
        (("GET", "/predict"), {}, 405, "POST"),
        (("GET", "/model"), {}, 404, "/predict"),
    ]
    with client(model) as http:
        for what, headers, status, word in cases:
            answer = http.request(*what, content="{}", headers=headers)
            assert answer.status_code == status and word in answer.json()["error"], what


class Stuck:
    """A model that answers when it is let."""

    def __init__(self, model):
        self.signature, self.padded, self.model = model.signature, model.padded, model
        self.asked, self.let = threading.Event(), threading.Event()

    def __call__(self, inputs, seed):
        self.asked.set()
        self.let.wait()
        return self.model(inputs, seed)


def test_a_request_that_takes_too_long_is_given_up_and_a_full_queue_says_so(model, features):
    body = packed(**{m: x[:3] for m, x in features.items()})
    post, stuck = {"url": "/predict", "content": body, "headers": AS_NPZ}, Stuck(model)
    with (
        client(stuck, batch=3, queue=3) as http,
        concurrent.futures.ThreadPoolExecutor(2) as threads,
    ):
        first = threads.submit(http.post, **post)
        stuck.asked.wait()
        second = threads.submit(http.post, **post)
        while "mmdjax_waiting_utterances 3.0" not in http.get("/metrics").text:
            pass
        refused = http.post(**post)
        stuck.let.set()
        assert first.result().status_code == second.result().status_code == 200
    assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
    assert "allowed: try again later" in refused.json()["error"]
    stuck = Stuck(model)
    with client(stuck, timeout=0.01) as http:
        late = http.post(**post)
        stuck.let.set()
        assert late.status_code == 504 and "within 0.01 s" in late.json()["error"]


def test_a_server_that_fails_says_no_more_than_that(model, features, monkeypatch):
    def fail(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr(bodies, "written", fail)
    with client(model) as http:
        answer = http.post("/predict", content=packed(**features), headers=AS_NPZ)
        metrics = http.get("/metrics").text
    assert answer.status_code == 500 and "secret" not in answer.text
    assert 'mmdjax_requests_total{path="/predict",status="500"} 1.0' in metrics


def test_health_describes_the_model(model):
    with client(model) as http:
        told = http.get("/health").json()
    assert told["status"] == "ok" and told["model"]["draws"] == 2
    assert [m["name"] for m in told["model"]["modalities"]] == list(NAMES)


def test_examples_are_utterances_as_the_model_reads_them(model, features, tmp_path):
    labels, ids = np.arange(6.0), np.array([f"u{i}" for i in range(6)])
    file = tmp_path / "examples.npz"
    file.write_bytes(packed(**features, labels=labels, id=ids, other=np.ones(3)))
    shown = examples.of_file(model, file, 2**20)
    assert [each["id"] for each in shown] == ids.tolist() and shown[2]["label"] == 2
    assert shown[1]["features"]["vision"] is None
    assert len(shown[4]["features"]["language"]) == 6  # zeros after its end are padding
    assert shown[3]["features"]["acoustic"][2] == [None] * 5
    with client(model, shown) as http:
        assert http.get("/examples").json()["utterances"] == shown
        read = http.post("/examples", content=file.read_bytes(), headers=AS_NPZ)
        assert read.headers["content-type"] == "application/json"
        assert read.json()["utterances"] == shown
        one = {m: [x] for m, x in shown[3]["features"].items()}
        answer = http.post("/predict", json=one).json()
    np.testing.assert_array_equal(np.float32(answer["mean"]), model(features)["mean"][3:4])


def test_classes_come_with_their_set(tmp_path, features):
    model = exported(tmp_path, task=Classification(("calm", "glad")))
    with client(model) as http:
        answer = http.post(
            "/predict", content=packed(**features), headers=AS_NPZ | {"Accept": "*/*"}
        )
        names = http.get("/health").json()["model"]["task"]["names"]
    found = np.load(io.BytesIO(answer.content))
    assert names == ["calm", "glad"] and found["within"].any(1).all()
    np.testing.assert_allclose(found["mean"].sum(1), 1, rtol=1e-5)
