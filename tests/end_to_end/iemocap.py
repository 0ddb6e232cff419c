"""A folder of IEMOCAP's kind in GCNet's layout, for tests of classes."""

import pickle

import numpy as np


def write_iemocap(folder, rng) -> str:
    """Write two speakers, four classes, some dialogues of one utterance; return the pickle."""
    lengths = {f"d{i}": int(n) for i, n in enumerate([1, 5, 3, 6, 2, 4, 1, 5, 3, 4, 6, 2, 3, 1, 4])}
    ids = {d: [f"{d}_{i}" for i in range(n)] for d, n in lengths.items()}
    labels = {d: [int(c) for c in rng.integers(0, 4, n)] for d, n in lengths.items()}
    speakers = {d: [("M", "F")[i % 2] for i in range(n)] for d, n in lengths.items()}
    for name, width in (("text", 6), ("audio", 4)):
        (folder / "features" / name).mkdir(parents=True)
        for d, names in ids.items():
            for i, u in enumerate(names):
                x = rng.standard_normal(width).astype(np.float32)
                x[0] += labels[d][i]
                np.save(folder / "features" / name / f"{u}.npy", x)
    path, test = folder / "iemocap.pkl", {"d1", "d6", "d9"}
    with path.open("wb") as file:
        parts = (set(ids) - test, test)
        pickle.dump((ids, labels, speakers, {d: [] for d in ids}, *parts), file)
    return str(path)
