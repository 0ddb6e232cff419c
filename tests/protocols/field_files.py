"""Small files in exactly the form that the field's public loaders unpack: LAYOUTS maps a name to
what writes one in a folder.

The form is that of dataloader.py of DialogueRNN and COSMIC (declare-lab/conv-emotion), MMGCN
(hujingwen6666/MMGCN) and SDT, preprocess.py of COGMEN (Exploration-Lab/COGMEN), create_dataset.py
of MISA, the README of MAG-BERT, and data_loader.py of MUStARD.
"""

import pickle
import struct
from pathlib import Path

import numpy as np

DRAW = np.random.default_rng(0)


class _Python2(pickle._Pickler):
    """Writes what cPickle.dump(tree, file, 2) of python 2 writes: str are bytes of BINSTRING."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_string(self, words):
        raw = words if isinstance(words, bytes) else words.encode("latin1")
        short = len(raw) < 256
        size = struct.pack("<B" if short else "<i", len(raw))
        self.write((pickle.SHORT_BINSTRING if short else pickle.BINSTRING) + size + raw)
        self.memoize(words)

    def save_global(self, obj, name=None):
        module = obj.__module__.replace("numpy._core", "numpy.core")
        module = {"builtins": "__builtin__"}.get(module, module)
        self.write(pickle.GLOBAL + f"{module}\n{name or obj.__qualname__}\n".encode())
        self.memoize(obj)

    dispatch[str] = dispatch[bytes] = save_string
    dispatch[type] = save_global


def python2(path: Path, tree) -> Path:
    with path.open("wb") as file:
        _Python2(file, 2).dump(tree)
    return path


def python3(path: Path, tree) -> Path:
    path.write_bytes(pickle.dumps(tree))
    return path


def conversations(names, row) -> dict:
    """A list over 2 to 4 utterances for each name."""
    return {name: [row(name, i) for i in range(2 + n % 3)] for n, name in enumerate(names)}


def vectors(names, width: int, kind="f8") -> dict:
    return conversations(names, lambda *_: DRAW.normal(size=width).astype(kind))


NAMES = ["Ses01M_script01_1", "Ses01F_impro02", "Ses02F_impro01", "Ses05M_impro03"]


def iemocap_parts(names=NAMES) -> dict:
    """By name, in the order in which DialogueRNN unpacks them."""
    return {
        "ids": conversations(names, lambda name, i: f"{name}_{'MF'[i % 2]}{i:03d}"),
        "speakers": conversations(names, lambda name, i: "MF"[i % 2]),
        "labels": conversations(names, lambda name, i: (len(name) + i) % 6),
        "text": vectors(names, 4),
        "audio": vectors(names, 3),
        "visual": vectors(names, 5),
        "sentences": conversations(names, lambda name, i: f"Said \xe9 {i}."),
        "train": list(names[:3]),
        "test": list(names[3:]),
    }


def meld_parts() -> dict:
    """Conversations are ints, ids are numbers within one, speakers one-hot, features arrays."""
    names = [0, 1, 2, 1153, 1154]
    parts = iemocap_parts(names[:0]) | {
        "ids": conversations(names, lambda name, i: i),
        "speakers": conversations(names, lambda name, i: np.eye(9)[(name + i) % 9].tolist()),
        "labels": conversations(names, lambda name, i: (name + i) % 7),
        "sentences": conversations(names, lambda name, i: "Oh my God!"),
        "other": conversations(names, lambda name, i: (name + i) % 3),
        "train": set(names[:3]),
        "test": set(names[3:]),
    }
    for key, width in (("text", 6), ("audio", 3), ("visual", 4)):
        parts[key] = {name: np.array(rows) for name, rows in vectors(names, width).items()}
    return parts


def ordered(parts: dict, order: str) -> tuple:
    return tuple(parts[name] for name in order.split())


def iemocap(folder: Path) -> Path:
    return python2(folder / "IEMOCAP_features.pkl", tuple(iemocap_parts().values()))


def meld(folder: Path) -> Path:
    """MMGCN's and MM-DFN's MELD_features_raw1.pkl: a list of ten."""
    parts = meld_parts()
    tree = ordered(parts, "ids speakers labels text audio visual sentences train test other")
    return python3(folder / "MELD_features_raw1.pkl", list(tree))


def meld_dialoguernn(folder: Path) -> Path:
    parts = meld_parts()
    tree = ordered(parts, "ids speakers labels text audio sentences train test other")
    return python3(folder / "MELD_features_raw.pkl", tree)


def cogmen_mosei(folder: Path) -> Path:
    """A vector of labels and a sequence of audio an utterance, words of text."""
    names = ["a1", "b2", "c3", "d4"]
    parts = iemocap_parts(names) | {
        "labels": conversations(names, lambda name, i: [i - 1.5]),
        "text": conversations(names, lambda name, i: ["some", "words"]),
        "audio": conversations(names, lambda name, i: DRAW.normal(size=(i + 1, 3))),
    }
    *others, test = parts.values()
    others[-1] = names[:2]
    return python3(folder / "tbje_mosei_updated.pkl", (*others, names[2:3], test))


def cosmic(folder: Path) -> Path:
    """Four layers of RoBERTa, of 1024 channels in truth, and a validation split."""
    parts = iemocap_parts()
    layers = [vectors(NAMES, 20, "f4") for _ in range(4)]
    splits = (NAMES[:2], NAMES[2:3], NAMES[3:])
    tree = (parts["speakers"], parts["labels"], *layers, parts["sentences"], *splits)
    return python3(folder / "iemocap_features_roberta.pkl", tree)


def sdt(folder: Path) -> Path:
    parts = iemocap_parts()
    layers = [vectors(NAMES, 20, "f4") for _ in range(3)]
    values = list(parts.values())
    return python3(folder / "iemocap_multimodal_features.pkl", (*values[:4], *layers, *values[4:]))


def bc_lstm(folder: Path) -> Path:
    """Activations of videos that are padded to 4 utterances, labels one-hot."""
    tree = {}
    for split, lengths in (("train", [2, 4, 3]), ("test", [1, 3])):
        mask = np.arange(4) < np.array(lengths)[:, None]
        for key, width in (("text", 4), ("audio", 3), ("video", 5)):
            x = DRAW.normal(size=(*mask.shape, width))
            tree[f"{key}_{split}"] = (x * mask[..., None]).astype("f4")
        tree[f"{split}_mask"] = mask.astype(float)
        tree[f"{split}_label"] = np.eye(2)[np.arange(4) % 2][None].repeat(len(lengths), 0)
    return python2(folder / "unimodal.pickle", tree)


def mag(folder: Path) -> Path:
    """MAG-BERT's mosi.pkl: words as text, (T, C) aligned to them, labels (1, 1)."""
    tree = {}
    for split, rows in (("train", 4), ("dev", 2), ("test", 3)):
        tree[split] = [
            (
                (["word"] * (i + 2), DRAW.normal(size=(i + 2, 5)), DRAW.normal(size=(i + 2, 3))),
                np.array([[i - 1.4]], np.float32),
                f"{split}v{i}[{i}]",
            )
            for i in range(rows)
        ]
    return python3(folder / "mosi.pkl", tree)


def misa(folder: Path) -> Path:
    """Words are numbers of a vocabulary; a fourth are those words."""
    tree = {}
    for split, rows in (("train", 3), ("dev", 2), ("test", 2)):
        tree[split] = []
        for i in range(rows):
            x, y = (DRAW.normal(size=(i + 2, width)) for width in (5, 3))
            inside = (np.arange(i + 2), x, y, ["word"] * (i + 2))
            tree[split].append((inside, np.full((1, 7), i, "f4"), f"{split}{i}[0]"))
    return python3(folder / "mosei.pkl", tree)


def misa_folder(folder: Path) -> Path:
    """As MISA keeps it: train.pkl, dev.pkl and test.pkl."""
    tree = pickle.loads(misa(folder).read_bytes())
    (path := folder / "MOSEI").mkdir()
    for split, rows in tree.items():
        python3(path / f"{split}.pkl", rows)
    return path


def modality_folder(folder: Path) -> Path:
    """A pickle {id: array} for each modality, of which each lacks an id."""
    (path := folder / "ur_funny").mkdir()
    python3(path / "language.p", {i: DRAW.normal(size=(i + 1, 4)) for i in range(1, 6)})
    python3(path / "acoustic.p", {i: DRAW.normal(size=(3, i + 1)) for i in range(2, 7)})
    lines = [f"{i},{i % 3},{'test' if i > 4 else 'train'}" for i in range(1, 7)]
    (path / "labels.csv").write_text("\n".join(["id,label,split", *lines]))
    return path


def mustard(folder: Path) -> Path:
    """audio_features.p: id -> (channels, frames)."""
    tree = {f"1_{i}": DRAW.normal(size=(4, i + 2)).astype("f4") for i in range(5)}
    return python3(folder / "audio_features.p", tree)


def by_id(folder: Path) -> Path:
    """Arrays by modality for each id, one of which lacks its audio."""
    tree = {}
    for i in range(5):
        tree[f"v_{i}"] = {
            "text": DRAW.normal(size=4),
            "audio": DRAW.normal(size=(i + 1, 3)),
            "label": float(i),
            "words": "said",
        }
    del tree["v_2"]["audio"]
    return python3(folder / "ids.pkl", tree)


def by_split_and_id(folder: Path) -> Path:
    tree = {
        split: {
            f"{split}{i}": {"text": DRAW.normal(size=4), "audio": DRAW.normal(size=3), "y": i % 2}
            for i in range(rows)
        }
        for split, rows in (("train", 4), ("valid", 2), ("test", 3))
    }
    return python3(folder / "split_ids.pkl", tree)


def npy_dict(folder: Path) -> Path:
    tree = {
        split: {"text": DRAW.normal(size=(rows, 6, 4)), "audio": DRAW.normal(size=(rows, 6, 3))}
        | {"labels": np.arange(rows) - 1.5, "id": [f"{split}{i}" for i in range(rows)]}
        for split, rows in (("train", 4), ("valid", 2), ("test", 3))
    }
    np.save(path := folder / "features.npy", tree, allow_pickle=True)
    return path


CSV = """id,split,label,conversation,speaker,text_0,text_1,audio.1,audio.0,note
u0,train,happy,c0,A,0.5,-1,2,1,said
u1,train,sad,c0,B,1.5,3,4,3,"a, b"
u2,train,,c1,A,1,2,,,
u3,valid,happy,c2,A,1e-3,2,6,5,
u4,test,neutral,c3,A,1,2,8,7,
u5,test,sad,c3,B,1,2,1,0.25,
"""


def csv_table(folder: Path) -> Path:
    (path := folder / "table.csv").write_text(CSV)
    return path


def npz_of_words(folder: Path) -> Path:
    np.savez(
        path := folder / "words.npz",
        text=DRAW.normal(size=(6, 4)),
        audio=DRAW.normal(size=(6, 3)),
        label=np.array(["sad", "happy", "", "sad", "neutral", "happy"]),
        split=np.array([0, 0, 0, 1, 2, 2]),
    )
    return path


LAYOUTS = {
    "IEMOCAP of DialogueRNN": iemocap,
    "MELD of MMGCN": meld,
    "MELD of DialogueRNN": meld_dialoguernn,
    "MOSEI of COGMEN": cogmen_mosei,
    "IEMOCAP of COSMIC": cosmic,
    "IEMOCAP of SDT": sdt,
    "bc-LSTM": bc_lstm,
    "MAG-BERT": mag,
    "MISA": misa,
    "folder of MISA": misa_folder,
    "folder of modalities": modality_folder,
    "MUStARD": mustard,
    "ids": by_id,
    "ids by split": by_split_and_id,
    "npy": npy_dict,
    "csv": csv_table,
    "npz of words": npz_of_words,
}
