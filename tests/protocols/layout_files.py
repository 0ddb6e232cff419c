"""Small files in every layout, for tests: LAYOUTS maps a name to what writes one in a folder."""

import pickle
from pathlib import Path

import h5py
import numpy as np

from mmdjax.data.formats import lazy
from tests.protocols import field_files

SPLITS = {"train": 5, "valid": 3, "test": 4}
FRAMES = 6
WIDTHS = {"text": 4, "audio": 3}


def split(name: str, rows: int, frames: int = FRAMES) -> dict:
    """Row i has i % frames + 1 frames, as `audio_lengths` tells."""
    draw = np.random.default_rng(len(name))
    lengths = np.arange(rows) % frames + 1
    there = (np.arange(frames) < lengths[:, None])[..., None]
    part = {
        key: np.where(there, draw.normal(size=(rows, frames, width)), 0).astype(kind)
        for (key, width), kind in zip(WIDTHS.items(), ("f4", "f8"), strict=True)
    }
    part["audio_lengths"] = lengths
    part["regression_labels"] = draw.uniform(-3, 3, rows)
    part["id"] = np.array([f"{name}{row}" for row in range(rows)])
    return part


def nested() -> dict:
    return {name: split(name, rows) for name, rows in SPLITS.items()}


def mmsa(folder: Path) -> Path:
    tree = nested()
    for part in tree.values():
        part["raw_text"] = np.array(["words"] * len(part["id"]), object)
    (path := folder / "aligned_50.pkl").write_bytes(pickle.dumps(tree, 4))
    return path


def mult(folder: Path) -> Path:
    """MulT's: labels (N, 1, 1), ids (N, 1, 3) of bytes."""
    tree = nested()
    for name, part in tree.items():
        del part["audio_lengths"]
        part["labels"] = part.pop("regression_labels")[:, None, None].astype("f4")
        rows = range(len(part["id"]))
        part["id"] = np.array([[[name.encode(), b"%d" % i, b"9.5"]] for i in rows])
    (path := folder / "mosi_data.pkl").write_bytes(pickle.dumps(tree, 3))
    return path


def flat_pickle(folder: Path) -> Path:
    tree = split("all", 6) | {"names": [1, {"a": (2, None)}], "mean": np.zeros((1, 4))}
    (path := folder / "flat.pkl").write_bytes(pickle.dumps(tree, 5))
    return path


def npz_splits(folder: Path) -> Path:
    arrays = {f"{n}/{key}": x for n, part in nested().items() for key, x in part.items()}
    np.savez(path := folder / "splits.npz", **arrays)
    return path


def npz_column(folder: Path) -> Path:
    """(U, C) arrays and a column of splits that mixes them, compressed."""
    part, rows = split("u", 9), np.arange(9)
    arrays = {key: part[key][:, 0] for key in WIDTHS}
    arrays |= {"id": part["id"], "label": part["regression_labels"], "split": rows % 3}
    np.savez_compressed(path := folder / "column.npz", **arrays, note=np.array("made"))
    return path


def npz_one(folder: Path) -> Path:
    part = split("one", 6)
    seen = {"text_observed": np.arange(6) > 1, "audio_observed": np.ones((6, FRAMES), bool)}
    np.savez(path := folder / "one.npz", **part, **seen)
    return path


def h5_splits(folder: Path) -> Path:
    with h5py.File(path := folder / "splits.h5", "w") as file:
        for name, part in nested().items():
            for key, x in part.items():
                file[f"{name}/{key}"] = x.tolist() if key == "id" else x
    return path


def _gaps(rows: int) -> np.ndarray:
    draw = np.random.default_rng(rows)
    x = draw.normal(size=(rows, FRAMES, 5))
    x[draw.uniform(size=x.shape) < 0.3] = np.nan
    return x


def pypots_npz(folder: Path) -> Path:
    np.savez(path := folder / "physionet.npz", X=_gaps(8), y=np.arange(8) % 2)
    return path


def pypots_h5(folder: Path) -> Path:
    with h5py.File(path := folder / "physionet.h5", "w") as file:
        for name, rows in (("train", 6), ("val", 3), ("test", 3)):
            file.create_dataset(f"{name}_X", data=_gaps(rows), compression="gzip", chunks=(2, 3, 5))
            file[f"{name}_y"] = np.arange(rows) % 2
        file["val_X_ori"] = np.nan_to_num(_gaps(3))
        file["n_classes"] = 2
    return path


def pypots_pickle(folder: Path) -> Path:
    tree = {"n_steps": FRAMES, "train_X": _gaps(6), "train_y": np.arange(6) % 2, "val_X": _gaps(3)}
    tree["val_y"] = [1, 0, 1]
    (path := folder / "benchpots.pkl").write_bytes(pickle.dumps(tree))
    return path


def intervals(frames: int) -> np.ndarray:
    return np.stack([np.arange(frames), np.arange(frames) + 1], 1).astype(float)


def csd_file(path: Path, name: str, entries: dict, **options) -> Path:
    """entries: id -> (features, intervals)."""
    with h5py.File(path, "w") as file:
        for one, (features, times) in entries.items():
            group = file.create_group(f"{name}/data/{one}")
            group.create_dataset("features", data=features, **options)
            group.create_dataset("intervals", data=times)
        text = file.create_dataset(f"{name}/metadata/root name", (1,), h5py.string_dtype())
        text[0] = f'"{name}"'
    return path


def csd_folder(folder: Path) -> Path:
    """Two modalities, of which each lacks an id, and a label an id."""
    draw = np.random.default_rng(0)
    (path := folder / "mosei").mkdir()
    audio = {f"v{i}": (draw.normal(size=(i + 2, 3)).astype("f4"), intervals(i + 2)) for i in (0, 1)}
    words = {f"v{i}": (draw.normal(size=(i + 2, 2)), intervals(i + 2)) for i in (1, 2)}
    labels = {f"v{i}": (np.full((1, 1), i - 1.0), np.array([[0.0, 9.0]])) for i in range(3)}
    csd_file(path / "COVAREP.csd", "COVAREP", audio, compression="gzip")
    csd_file(path / "words.csd", "glove_vectors", words)
    csd_file(path / "labels.csd", "All Labels", labels)
    return path


def csd_segments(folder: Path) -> Path:
    """Labels of segments: rows are those, cut out of their videos."""
    (path := folder / "mosi").mkdir()
    audio = {
        "v": (np.arange(18.0).reshape(6, 3), intervals(6)),
        "w": (np.ones((2, 3)), intervals(2)),
    }
    segments = {"v": (np.array([[1.0], [-2.0]]), np.array([[0.0, 2.5], [3.0, 6.0]]))}
    csd_file(path / "audio.csd", "COVAREP", audio)
    csd_file(path / "opinion.csd", "Opinion Segment Labels", segments)
    return path


def csd_alone(folder: Path) -> Path:
    entries = {f"v{i}": (np.full((i + 1, 2), i, "f4"), intervals(i + 1)) for i in range(3)}
    return csd_file(folder / "alone.csd", "COVAREP", entries)


def mmin(folder: Path) -> Path:
    """Two folds; the vision file lacks u1."""
    draw = np.random.default_rng(0)
    path = folder / "IEMOCAP"
    for key, width in (("A/comparE", 5), ("V/denseface", 4), ("L/bert_large", 3)):
        (path / key).parent.mkdir(parents=True)
        with h5py.File(path / f"{key}.h5", "w") as file:
            for i in range(6):
                if (key, i) != ("V/denseface", 1):
                    file[f"u{i}"] = draw.normal(size=(i + 2, width)).astype("f4")
    with h5py.File(path / "A/comparE_mean_std.h5", "w") as file:
        file["1/mean"] = np.zeros(5)
    for fold in (1, 2):
        (target := path / "target" / str(fold)).mkdir(parents=True)
        for name, rows in (("trn", [0, 1, 2]), ("val", [3]), ("tst", [4, 5])):
            rows = rows if fold == 1 else rows[::-1]
            np.save(target / f"{name}_label.npy", np.eye(4)[np.array(rows) % 4])
            np.save(target / f"{name}_int2name.npy", np.array([[b"u%d" % i] for i in rows]))
    return path


def mmin_file(folder: Path) -> Path:
    with h5py.File(path := folder / "comparE.h5", "w") as file:
        for name, rows in (("trn", range(3)), ("val", range(3, 5))):
            for i in rows:
                file[f"{name}/u{i}"] = np.full((i + 1, 4), i, "f4")
    return path


def folder_of_npy(folder: Path) -> Path:
    """Vectors of language; sequences of acoustic, which u1 lacks."""
    path = folder / "features"
    for key in ("language", "acoustic"):
        (path / key).mkdir(parents=True)
    lines = ["id,label,split"]
    for i in range(5):
        np.save(path / f"language/u{i}.npy", np.full(4, i, "f4"))
        if i != 1:
            np.save(path / f"acoustic/u{i}.npy", np.full((i + 1, 3), i, "f8"))
        lines.append(f"u{i},{i - 2.5},{'train' if i < 3 else 'test'}")
    (path / "labels.csv").write_text("\n".join(lines) + "\n")
    return path


def gcnet(folder: Path) -> Path:
    (path := folder / "CMUMOSI").mkdir()
    ids = {f"c{i}": [f"c{i}_{j}" for j in range(i + 1)] for i in range(3)}
    labels = {one: [float(len(said)) - 2] * len(said) for one, said in ids.items()}
    speakers = {one: ["A"] * len(said) for one, said in ids.items()}
    tree = (ids, labels, speakers, speakers, {"c2"}, {"c0"}, {"c1"})
    (path / "CMUMOSI_features_raw_2way.pkl").write_bytes(pickle.dumps(tree))
    for key, width in (("deberta", 4), ("manet", 3)):
        (path / "features" / key).mkdir(parents=True)
        for said in ids.values():
            for j, name in enumerate(said):
                np.save(path / "features" / key / f"{name}.npy", np.full(width, j, "f4"))
    return path


LAYOUTS = {
    "MMSA": mmsa,
    "MulT": mult,
    "flat pickle": flat_pickle,
    "npz by split": npz_splits,
    "npz with a column": npz_column,
    "npz of one split": npz_one,
    "h5 by split": h5_splits,
    "PyPOTS npz": pypots_npz,
    "PyPOTS h5": pypots_h5,
    "PyPOTS pickle": pypots_pickle,
    "csd folder": csd_folder,
    "csd segments": csd_segments,
    "csd alone": csd_alone,
    "MMIN": mmin,
    "MMIN file": mmin_file,
    "folder": folder_of_npy,
    "GCNet": gcnet,
    **field_files.LAYOUTS,
}


def content(path: Path) -> dict[str, bytes]:
    """Of a file, or of all in a folder, by path."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(one.relative_to(path)): one.read_bytes() for one in files}


def whole(rows):
    """All rows: an array, or a list of them."""
    made = [rows[a:b] for a, b in lazy.blocks(rows)]
    if lazy.is_ragged(rows):
        return [one for block in made for one in block]
    return np.concatenate(made or [np.asarray(rows)])


KEYS = {"text": "language", "audio": "acoustic"}


def tree(rows=(40, 10, 20), frames=6, **changes):
    """{train, valid, test} whose utterances are whole; changes: split -> key -> value."""
    made, rng = {}, np.random.default_rng(0)
    for name, count in zip(("train", "valid", "test"), rows, strict=True):
        made[name] = {
            "text": rng.normal(size=(count, frames, 4)).astype("f4"),
            "audio": rng.normal(size=(count, frames, 3)),
            "regression_labels": rng.uniform(-3, 3, count),
            "id": [f"{name}{i // 4}$_${i}" for i in range(count)],
        }
        made[name] |= changes.get(name, {})
    return made
