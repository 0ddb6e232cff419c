"""A model trained on a folder of GCNet, with classes: the folder comes back, classes are told."""

import csv
import json
import pickle
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import mmdjax
from mmdjax import config as configs
from mmdjax import run
from mmdjax.data.sources import gcnet
from mmdjax.errors import UserError
from mmdjax.serving import files

from .iemocap import write_iemocap
from .test_served_conversations import SMALL

NAMES = ("happy", "sad", "neutral", "angry")


pytestmark = pytest.mark.usefixtures("compiled_in_haste")  # nearly all time is compiling


@pytest.fixture(autouse=True)
def nan_says_missing():
    with jax.debug_nans(False):
        yield


@pytest.fixture(scope="module")
def of_classes(tmp_path_factory):
    """(folder of GCNet, workdir of a run on it, rows of its results).

    Training, validation and test lack some files and labels that the folder has.
    """
    folder = tmp_path_factory.mktemp("iemocap")
    (folder / "data").mkdir()
    complete = Path(write_iemocap(folder / "data", np.random.default_rng(0)))
    lacking = shutil.copytree(folder / "data", folder / "lacking")
    for key, taken in (("text", 0), ("audio", 1)):
        for path in sorted((lacking / "features" / key).iterdir())[taken::5]:
            path.unlink()
    path = str(lacking / complete.name)
    ids, labels, *others = pickle.loads(complete.read_bytes())
    labels = {d: [np.nan, *its[1:]] if len(its) > 3 else its for d, its in labels.items()}
    Path(path).write_bytes(pickle.dumps((ids, labels, *others)))
    modalities = ("text:language", "audio:acoustic")
    changes = {
        "data": {"name": "gcnet", "path": path, "seed": 4, "modalities": modalities},
        "task": {"kind": "classification", "names": NAMES},
        "graph": SMALL["graph"] | {"lengths": (8,)},
        "evaluation": SMALL["evaluation"] | {"rates": (0.0, 0.5)},
    }
    config = configs.from_dict(SMALL | changes)
    return folder / "data", folder / "run", run.run(config, folder / "run")


def test_classes_of_a_user_s_file_are_predicted(of_classes):
    _, workdir, rows = of_classes
    accuracy = [r for r in rows if r["protocol"] == "fixed" and r["metric"] == "acc"]
    shown = {(r["method"], r["condition"]) for r in accuracy}
    assert shown >= {("gsdnet", "l"), ("gsdnet_mean_trained", "l+a")}
    assert all(0 <= r["value"] <= 1 for r in accuracy)
    kept = json.loads((workdir / "results.json").read_text())
    assert not [r for r in kept if r["metric"] == "acc2_nonzero"]
    assert "accuracy (%)" in (workdir / "report.md").read_text()


def test_a_folder_of_gcnet_comes_back_filled_and_is_read_by_training(of_classes, tmp_path):
    data, workdir, _ = of_classes
    gaps = shutil.copytree(data, tmp_path / "gaps")
    for name in ("text/d1_0", "audio/d1_2", "text/d3_1", "text/d4_0", "audio/d4_0"):
        (gaps / "features" / f"{name}.npy").unlink()
    lost = "d4_0"  # nothing is left of it
    (gaps / "notes.txt").write_text("whole")
    imputer = mmdjax.Imputer.load(workdir, batch=4)
    counts = files.impute(imputer, gaps, tmp_path / "filled", draws=2)
    assert (tmp_path / "filled/notes.txt").read_text() == "whole"
    with pytest.raises(UserError, match="holds 'text_drawn' already"):
        files.impute(imputer, tmp_path / "filled", tmp_path / "again")
    assert counts == {"utterances": 50, "completed": 3, "empty": 1, "long": 0}
    filled = tmp_path / "filled" / "features"
    for path in sorted((data / "features").rglob("*.npy")):
        kept = gaps / path.relative_to(data)
        made = filled / path.relative_to(data / "features")
        drawn = made.parent.with_name(made.parent.name + "_drawn") / made.name
        if path.stem == lost:
            assert not made.exists()
        elif kept.exists():
            assert made.read_bytes() == kept.read_bytes() and not np.load(drawn).any()
        else:
            assert np.load(made).shape == np.load(path).shape and np.load(drawn).all()
    for modality in ("text", "audio"):
        shutil.copy(data / "features" / modality / f"{lost}.npy", filled / modality)
    read = gcnet.read(str(tmp_path / "filled" / "iemocap.pkl"), {"text": "t", "audio": "a"})
    assert sum(map(len, read.values())) == 50


def test_classes_of_a_file_are_told_with_those_that_the_level_asks_for(of_classes, tmp_path):
    data, workdir, _ = of_classes
    imputer, probable = mmdjax.Imputer.load(workdir, batch=4), {}
    for level in (0.5, 0.95):
        output = tmp_path / f"{level}.csv"
        files.predict(imputer, data, output, level=level)
        with output.open(newline="") as file:
            lines = list(csv.DictReader(file))
        assert len(lines) == 50 and {line["split"] for line in lines} == {"train", "test"}
        for line in lines:
            p = np.array([float(line[f"p_{name}"]) for name in NAMES])
            assert p.sum() == pytest.approx(1, abs=1e-5) and line["observed"] == "language+acoustic"
            assert line["prediction"] == NAMES[p.argmax()] and 0 <= float(line["spread"]) < 1
            assert line["prediction"] in line["within"].split("+")
        probable[level] = sum(len(line["within"].split("+")) for line in lines)
    assert probable[0.5] < probable[0.95]


def test_wrong_speakers_of_a_folder_are_one_line(of_classes, tmp_path):
    data, workdir, _ = of_classes
    broken = shutil.copytree(data, tmp_path / "broken")
    path = Path(broken) / "iemocap.pkl"
    tree = list(pickle.loads(path.read_bytes()))
    tree[2]["d1"] = tree[2]["d1"][:-1]
    path.write_bytes(pickle.dumps(tuple(tree)))
    with pytest.raises(UserError, match=r"'d1': speakers.*for 5 rows; allowed: 5 names") as error:
        files.predict(mmdjax.Imputer.load(workdir, batch=4), broken, tmp_path / "out.csv")
    assert "\n" not in str(error.value)
