"""Recordings are not trained on and tested with, and a user's files are known by their content."""

import h5py
import numpy as np
import pytest

from mmdjax.config import Data
from mmdjax.data import pipeline
from mmdjax.data.sources import from_file
from mmdjax.errors import UserError

from . import layout_files
from .test_from_file import KEYS


@pytest.mark.parametrize("count", range(3, 40))
def test_every_part_has_a_recording_and_none_is_in_two(count):
    recording = np.array([f"r{i}" for i in range(count) for _ in range(1 + i % 3)])
    rng = np.random.default_rng(count)
    parts = from_file.divided("here", recording, from_file.SHARES, rng)
    sets = [set(recording[rows].tolist()) for rows in parts.values()]
    assert all(sets) and sum(map(len, sets)) == count == len(set.union(*sets))


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["v[0]", "v[1]", "w[0]"], ["v", "v", "w"]),
        (["v$_$0", "v_3$_$1", "w$_$0"], ["v", "v_3", "w"]),
        (["a_1", "a_2", "b_1", "c_1"], ["a", "a", "b", "c"]),
        (["d0_utt1", "d0_utt2", "d1_utt1", "d2_utt1"], ["d0", "d0", "d1", "d2"]),
        (
            ["S1_im_F000", "S1_im_M001", "S2_im_F000", "S3_im_F1"],
            ["S1_im", "S1_im", "S2_im", "S3_im"],
        ),
        (["utt_1", "utt_2", "utt_3", "utt_4"], None),
        (["5", "6", "7"], None),
    ],
)
def test_recordings_are_told_from_ids(ids, expected):
    found = from_file.recordings_of(np.array(ids))
    assert found.tolist() == (expected or ids)


def test_recordings_of_hdf5_and_npz_are_columns(tmp_path):
    rng, video = np.random.default_rng(0), np.array([f"v{i // 4}" for i in range(40)])
    arrays = {"text": rng.normal(size=(40, 5, 4)), "audio": rng.normal(size=(40, 5, 3))}
    arrays |= {"label": rng.uniform(-1, 1, 40)}
    np.savez(tmp_path / "x.npz", **arrays, video=video)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for key, x in arrays.items():
            file[key] = x
        file["video"] = video.tolist()
    for name in ("x.npz", "x.h5"):
        found = from_file.read(str(tmp_path / name), KEYS)
        rows = [{int(i.split("/")[-1]) // 4 for i in batch.id} for batch in found.values()]
        assert [len(one) for one in rows] == [7, 1, 2] and len(set.union(*rows)) == 10


def test_links_and_features_beside_a_pickle_are_data_too(tmp_path, monkeypatch):
    monkeypatch.setenv("MMDJAX_CACHE", str(tmp_path / "cache"))
    for name, value in (("a", 0), ("b", 1)):
        (tmp_path / f"store_{name}").mkdir()
        np.save(tmp_path / f"store_{name}/u0.npy", np.full(4, value, "f4"))
        (tmp_path / name).mkdir()
        (tmp_path / name / "text").symlink_to(tmp_path / f"store_{name}")
        (tmp_path / name / "loop").symlink_to(tmp_path / name)

    def of(path):
        return pipeline.fingerprint(Data(name="file", path=str(path), modalities=("a:a", "b:b")))

    assert of(tmp_path / "a") != of(tmp_path / "b")
    path = layout_files.gcnet(tmp_path)
    (pickled,) = path.glob("*.pkl")
    before = of(pickled)
    np.save(path / "features/deberta/c0_0.npy", np.ones(4, "f4"))
    assert of(pickled) != before
    (path / "notes.json").write_text("{}")
    assert of(path) == of(path)


def test_folders_are_known_by_their_content(tmp_path, monkeypatch):
    monkeypatch.setenv("MMDJAX_CACHE", str(tmp_path / "cache"))
    names = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        names.append(layout_files.folder_of_npy(tmp_path / name))

    def of(path, **more):
        data = Data(name="file", path=str(path), modalities=("language:l", "acoustic:a"), **more)
        return pipeline.fingerprint(data)

    assert of(names[0]) == of(names[1]) != of(names[0], seed=1)
    np.save(names[1] / "language/u0.npy", np.ones(4, "f4"))
    assert of(names[0]) != of(names[1])
    with pytest.raises(UserError, match="is not a file or folder"):
        of(tmp_path / "none")
