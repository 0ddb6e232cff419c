"""Files made to do harm: none runs anything, reaches another file, fills the memory or hangs."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from mmdjax.data.formats.contents import LAYOUTS as NAMES
from tests.protocols.layout_files import LAYOUTS
from tests.protocols.test_fuzz_layouts import npy, place, survives
from tests.protocols.test_safe_pickle import BROKEN, REFUSED, RUNS


def zipped(members: dict[str, bytes], packed=zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packed) as archive:
        for name, raw in members.items():
            archive.writestr(name, raw)
    return file.getvalue()


HEADERS = {
    "code": "{'descr': __import__('os').system('true'), 'fortran_order': False, 'shape': (1,)}",
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (2, 3), }",
    "fields": "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 3), }",
    "huge": "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3000000000000), }",
    "overflow": "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4611686018427387904, 4), }",
    "empty and huge": "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9223372036854775807)}",
    "negative": "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -3), }",
    "truth": "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 3), }",
    "deep": "(" * 5000,
    "minus": "-" * 8000 + "1",
    "no dict": "[1, 2]",
    "other keys": "{'descr': '<f4', 'shape': (2, 3), 'fortran_order': False, 'more': 1}",
    "subarray": "{'descr': ('<f4', (9,)), 'fortran_order': False, 'shape': (2, 3), }",
    "nothing wide": "{'descr': '<U0', 'fortran_order': False, 'shape': (2, 3), }",
    "long": "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "2," * 20000 + ")}",
}


@pytest.mark.parametrize("name", HEADERS)
def test_evil_npy_headers_are_refused(name, tmp_path):
    raw = npy((2, 3), header=HEADERS[name], raw=bytes(64))
    path = place(tmp_path, "set", {"text/u0.npy": raw, "text/u1.npy": npy((2, 3))})
    assert survives(path)
    for packed in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        files = {"file.npz": zipped({"text.npy": raw, "audio.npy": npy((2, 3, 4))}, packed)}
        survives(place(tmp_path, f"zip{packed}", files) / "file.npz")


@pytest.mark.parametrize("name", [*RUNS, *REFUSED, *BROKEN])
def test_hostile_pickles_run_nothing(name, tmp_path):
    sentinel = tmp_path / "sentinel"
    known = {key: body for key, (body, _) in REFUSED.items()} | BROKEN
    raw = RUNS[name][0](sentinel) if name in RUNS else known[name]
    assert survives(place(tmp_path, "file.pkl", {"": raw}))
    gcnet = {"file.pkl": raw, "features/text/u.npy": npy((3,))}
    assert survives(place(tmp_path, "set", gcnet))
    assert not sentinel.exists()


def test_zip_bombs_are_refused(tmp_path):
    bomb = npy((2, 1000, 1000), raw=bytes(8 * 10**6))
    honest = zipped({"text.npy": bomb})
    size = struct.pack("<I", len(bomb))
    lies = honest.replace(size, struct.pack("<I", 2**32 - 2))
    assert lies != honest
    for name, raw in {
        "lies": lies,
        "more than it says": honest.replace(size, struct.pack("<I", 4096)),
        "huge": zipped({"text.npy": npy((2**20, 2**10, 2**10), raw=bytes(100))}),
        "many": zipped({f"{i}.npy": npy((1, 1, 1)) for i in range(300)}),
        "other packing": zipped({"text.npy": npy((2, 3, 4))}, zipfile.ZIP_LZMA),
        "no arrays": zipped({"text.txt": b"words"}),
        "twice": zipped({"text.npy": npy((2, 3, 4)), "texu.npy": npy((2, 3, 4))}).replace(
            b"texu.npy", b"text.npy"
        ),
    }.items():
        path = place(tmp_path, f"{name}.npz", {"": raw})
        assert survives(path) or name == "many"


def _links(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.h5"
    (folder / "secret").write_bytes(b"secret" * 1000)
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = np.ones((3, 4, 2))
    with h5py.File(path, "w") as file:
        file["train/text"] = np.ones((3, 4, 2))
        if kind == "external link":
            file["train/audio"] = h5py.ExternalLink("other.h5", "/x")
        elif kind == "external link to itself":
            file["train/audio"] = h5py.ExternalLink(path.name, "/train")
        elif kind == "soft loop":
            file["train/a"], file["train/b"] = h5py.SoftLink("/train/b"), h5py.SoftLink("/train/a")
        elif kind == "dangling":
            file["train/audio"] = h5py.SoftLink("/nowhere")
        elif kind == "hard loop":
            file["train/more"] = file["train"]
        elif kind == "many ways":  # each group holds the next a hundred times
            for depth in range(4):
                inner = file.create_group(f"deep{depth}")
                for i in range(100 * (depth > 0)):
                    inner[str(i)] = file[f"deep{depth - 1}"]
        elif kind == "long names":
            file.create_dataset("train/id", (3,), h5py.string_dtype())[:] = ["x" * 10**6] * 3
        elif kind == "external storage":
            secret = [(str(folder / "secret"), 0, 96)]
            file.create_dataset("train/audio", (3, 4, 2), "<f4", external=secret)
        elif kind == "virtual":
            layout = h5py.VirtualLayout((3, 4, 2), "<f8")
            layout[:] = h5py.VirtualSource("other.h5", "x", (3, 4, 2))
            file.create_virtual_dataset("train/audio", layout)
        elif kind == "huge":
            file.create_dataset("train/audio", (3, 2**30, 2**20), "<f4", chunks=(1, 64, 64))
        elif kind == "huge row of names":
            file.create_dataset("train/id", (2**40,), h5py.string_dtype(), chunks=(64,))
        elif kind == "references":
            file["train/audio"] = np.array([file.ref] * 3, h5py.ref_dtype)
        elif kind == "sequences":
            file.create_dataset("train/audio", (3,), h5py.vlen_dtype(np.float32))
        elif kind == "deep":
            file["/".join("a" * 40) + "/x"] = 1
        elif kind == "fields":
            file["train/audio"] = np.zeros((3, 4, 2), "f4,i4")
        elif kind == "no space":
            file["train/audio"] = h5py.Empty("f4")
    return path


REFUSED_LINKS = ["external link", "external link to itself", "soft loop", "dangling", "hard loop"]
REFUSED_LINKS += ["external storage", "virtual", "huge", "huge row of names", "deep"]
REFUSED_LINKS += ["many ways", "long names"]


@pytest.mark.parametrize("kind", [*REFUSED_LINKS, "references", "sequences", "fields", "no space"])
def test_hdf5_leads_nowhere_else(kind, tmp_path):
    message = survives(_links(kind, tmp_path))
    assert bool(message) == (kind in REFUSED_LINKS), message


def test_folders_of_odd_things_are_read_or_refused(tmp_path):
    good = {"text/u0.npy": npy((2, 3)), "text/u1.npy": npy((4, 3))}
    place(tmp_path, "loop", good)
    (tmp_path / "loop/text/again").symlink_to("../..")
    assert not survives(tmp_path / "loop")
    place(tmp_path, "self", good)
    (tmp_path / "self/audio").symlink_to("audio")
    assert not survives(tmp_path / "self")
    place(tmp_path, "dangling", good)
    (tmp_path / "dangling/text/u2.npy").symlink_to("nowhere")
    assert survives(tmp_path / "dangling")
    place(tmp_path, "device", good)
    (tmp_path / "device/text/u2.npy").symlink_to("/dev/zero")
    assert survives(tmp_path / "device")
    place(tmp_path, "pipe", good)
    os.mkfifo(tmp_path / "pipe/text/u2.npy")
    assert survives(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.pkl")
    assert survives(tmp_path / "pipe.pkl")
    for inside in ("pipe.csd", "A/pipe.h5"):
        (path := tmp_path / f"of {Path(inside).name}" / inside).parent.mkdir(parents=True)
        os.mkfifo(path)
        assert "regular" in survives(tmp_path / f"of {Path(inside).name}")
    os.mkfifo(place(tmp_path, "piped", good) / "labels.csv")
    assert not survives(tmp_path / "piped")
    assert survives(place(tmp_path, "empty", {"text/u0.npy": b""}))
    assert survives(place(tmp_path, "empty.pkl", {"": b""}))
    assert survives(place(tmp_path, "empty.npz", {"": zipped({})}))
    assert survives(place(tmp_path, "nothing", {"readme.txt": b"words"}))
    assert survives(tmp_path / "absent")
    assert not survives(place(tmp_path, "line\nbreak", {"te\nxt/u\n\x1b[2J0.npy": npy((2, 3))}))
    assert survives(place(tmp_path, "line\nbreak.pkl", {"": b"\x80\x04"}))
    assert survives(place(tmp_path, "bad\nnames", {"te\nxt/u\n.npy": npy((2, 3, 4))}))
    name = os.fsdecode(b"\xff\xfe")
    assert not survives(place(tmp_path, name, {f"{name}/{name}.npy": npy((2, 3))}))


def test_gcnet_names_lead_nowhere_else(tmp_path):
    ids = {"c": ["../../secret", "u"]}
    raw = pickle.dumps((ids, {"c": [1, 2]}, {}, {}, ["c"], [], []))
    place(tmp_path, "secret.npy", {"": npy((3,))})
    path = place(tmp_path, "set", {"a.pkl": raw, "features/text/u.npy": npy((3,))})
    assert "no name for a file" in survives(path)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_refuses_what_is_not_its_own(name, tmp_path):
    path = LAYOUTS[name](tmp_path)
    for layout in NAMES:
        survives(path, layout)
