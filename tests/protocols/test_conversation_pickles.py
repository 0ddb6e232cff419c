"""Conversations in one pickle: each public form is told from the others, read whole, and written
back so that its loader unpacks it as before."""

import pickle

import numpy as np
import pytest

from mmdjax.data.formats import conversations
from mmdjax.data.formats.contents import open_contents, write_copy
from mmdjax.data.formats.conversations import names_of_tuple
from mmdjax.data.sources import from_file
from tests.protocols import field_files, layout_files
from tests.protocols.field_files import LAYOUTS, NAMES, python3
from tests.protocols.layout_files import whole
from tests.protocols.test_safe_pickle import refusal

TUPLES = [name for name in LAYOUTS if name.startswith(("IEMOCAP", "MELD", "MOSEI"))]
KEYS = {"text": "language", "audio": "acoustic", "visual": "vision"}


def loaded(path):
    """As the loaders load it: python 2's strings are latin-1."""
    return pickle.loads(path.read_bytes(), encoding="latin1")


def test_utterances_stand_in_order_with_their_vectors_and_labels(tmp_path):
    path = field_files.iemocap(tmp_path)
    ids, speakers, labels, text, audio, visual, _, train, test = loaded(path)
    with open_contents(path) as opened:
        for split, names in (("train", sorted(train)), ("test", test)):
            part = opened.splits[split]
            assert part.id.tolist() == [one for name in names for one in ids[name]]
            assert part.label.tolist() == [one for name in names for one in labels[name]]
            assert part.talk["speaker"].tolist() == [x for name in names for x in speakers[name]]
            assert part.talk["conversation"].tolist() == [x for x in names for _ in ids[x]]
            assert part.talk["position"].dtype == np.float32
            assert part.talk["position"].tolist() == [i for x in names for i in range(len(ids[x]))]
            for key, column in (("text", text), ("audio", audio), ("visual", visual)):
                expected = [row for name in names for row in column[name]]
                np.testing.assert_array_equal(whole(part.features[key])[:, 0], expected)


def test_meld_has_speakers_ids_and_labels_of_its_own(tmp_path):
    """Its ids are numbers within a conversation, its speakers one-hot; sentiment is left out."""
    with open_contents(field_files.meld(tmp_path)) as opened:
        part = opened.splits["train"]
        assert part.id.tolist()[:3] == ["0_0", "0_1", "1_0"]
        assert part.talk["conversation"].tolist()[:3] == ["0", "0", "1"]
        assert part.talk["speaker"].tolist()[:3] == ["0", "1", "1"]
        assert part.label.tolist()[:3] == [0, 1, 1]
        assert opened.notes == ("element 10 of 10 is left out (of MELD, its sentiment)",)


def test_labels_are_told_from_layers_of_roberta(tmp_path):
    with open_contents(field_files.cosmic(tmp_path)) as opened:
        part = opened.splits["valid"]
        assert part.id.tolist() == [f"{NAMES[3]}_{i}" for i in range(2)]  # it has no ids
        assert set(part.talk["speaker"].tolist()) <= {"M", "F"} and part.label.max() < 6
    with open_contents(field_files.cogmen_mosei(tmp_path)) as opened:
        part = opened.splits["train"]
        assert part.label.tolist() == [-1.5, -0.5, -1.5, -0.5, 0.5]
        assert part.frames["audio"].tolist() == [1, 2, 1, 2, 3]
        assert opened.notes == ("text holds no numbers: left out",)


@pytest.mark.parametrize("order", conversations.TUPLES)
def test_each_order_of_a_tuple_is_told_from_the_others(order, tmp_path):
    parts = field_files.iemocap_parts() | {"valid": NAMES[2:3], "train": NAMES[:2]}
    parts |= {f"roberta{i}": field_files.vectors(NAMES, 1024, "f4") for i in range(1, 5)}
    parts["other"] = parts["labels"]
    tree = field_files.ordered(parts, order)
    assert names_of_tuple(tree) == tuple(order.split())
    with open_contents(python3(tmp_path / "file.pkl", tree)) as opened:
        for split, part in opened.splits.items():
            expected = [x for name in sorted(parts[split]) for x in parts["labels"][name]]
            assert part.label.tolist() == expected


def test_gcnets_tuple_is_not_one_of_these(tmp_path):
    path = layout_files.gcnet(tmp_path)
    (file,) = path.glob("*.pkl")
    assert not names_of_tuple(loaded(file))
    with open_contents(file) as opened:
        assert opened.layout == "gcnet"


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_and_names_of_bytes_are_read(protocol, tmp_path):
    parts = field_files.iemocap_parts()
    tree = [
        {name.encode(): rows for name, rows in column.items()}
        if isinstance(column, dict)
        else [name.encode() for name in column]
        for column in parts.values()
    ]
    (path := tmp_path / "bytes.pkl").write_bytes(pickle.dumps(tuple(tree), protocol))
    with open_contents(path) as opened:
        assert len(opened.splits["train"]) == 9
        assert opened.splits["test"].talk["conversation"].tolist() == [NAMES[3]] * 2


@pytest.mark.parametrize("name", TUPLES)
def test_loaders_unpack_a_copy_as_before(name, tmp_path):
    path = LAYOUTS[name](tmp_path)
    before, output = loaded(path), tmp_path / "made.pkl"
    with open_contents(path) as opened:
        names = names_of_tuple(before)
        key = next(iter(opened.splits["train"].features))
        new = {}
        for split, part in opened.splits.items():
            rows = whole(part.features[key])
            new[split, key] = [x * 0 + 7 for x in rows] if isinstance(rows, list) else rows * 0 + 7
        masks = {
            (split, f"{key}_drawn"): np.ones((len(part), 1), bool)
            for split, part in opened.splits.items()
        }
        write_copy(opened, output, new, masks)
    made = loaded(output)
    assert type(made) is type(before) and len(made) == len(before)
    for element, one, other in zip(names, before, made, strict=True):
        if element != key:
            assert repr(one) == repr(other)
            continue
        for conversation, rows in one.items():
            assert type(other[conversation]) is type(rows)
            for old, row in zip(rows, other[conversation], strict=True):
                assert row.shape == old.shape and row.dtype == old.dtype and (row == 7).all()
        assert set(other) - set(one) == {f"{key}_drawn"}
        assert set(other[f"{key}_drawn"]) == {x for x in one if x in other[f"{key}_drawn"]} != set()


def test_lists_of_numbers_stay_lists(tmp_path):
    parts = field_files.iemocap_parts()
    parts["text"] = {name: [x.tolist() for x in rows] for name, rows in parts["text"].items()}
    path = field_files.python2(tmp_path / "lists.pkl", tuple(parts.values()))
    with open_contents(path) as opened:
        ones = np.ones((2, 1, 4))
        write_copy(opened, tmp_path / "made.pkl", {("test", "text"): ones}, {})
    assert loaded(tmp_path / "made.pkl")[3][NAMES[3]] == [[1.0] * 4] * 2


def test_a_conversation_that_a_modality_lacks_is_missing_and_may_be_given(tmp_path):
    parts = field_files.iemocap_parts()
    del parts["visual"][NAMES[1]]
    path = python3(tmp_path / "lacking.pkl", tuple(parts.values()))
    with open_contents(path) as opened:
        part = opened.splits["train"]
        lacking = part.talk["conversation"] == NAMES[1]
        assert (part.observed["visual"] == ~lacking).all() and lacking.sum() == 3
        new = [np.ones((1, 5))] * len(part)
        write_copy(opened, tmp_path / "made.pkl", {("train", "visual"): new}, {})
    made = loaded(tmp_path / "made.pkl")[5][NAMES[1]]
    assert isinstance(made, list) and [x.shape for x in made] == [(5,)] * 3


def test_training_takes_validation_by_conversation(tmp_path):
    told = []
    found = from_file.read(str(field_files.iemocap(tmp_path)), KEYS, tell=told.append)
    found = {
        split: {id.rsplit("_", 1)[0] for id in batch.id.tolist()} for split, batch in found.items()
    }
    assert found["train"] | found["valid"] == set(NAMES[:3])
    assert not found["train"] & found["valid"]
    assert any("no validation split" in line for line in told)


def test_bc_lstm_takes_utterances_that_are_not_padding(tmp_path):
    path = field_files.bc_lstm(tmp_path)
    tree = loaded(path)
    with open_contents(path) as opened:
        part = opened.splits["train"]
        assert len(part) == tree["train_mask"].sum() == 9
        rows = whole(part.features["text"])[:, 0]
        np.testing.assert_array_equal(rows, tree["text_train"][tree["train_mask"] > 0])
        assert part.label.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]
        assert part.talk["conversation"].tolist()[:3] == ["train/0"] * 2 + ["train/1"]
        write_copy(opened, tmp_path / "made.pickle", {("train", "text"): rows[:, None] * 2}, {})
    made = loaded(tmp_path / "made.pickle")
    np.testing.assert_allclose(made["text_train"], tree["text_train"] * 2)
    assert not made["text_train"][0, 2:].any()


def changed(**columns):
    parts = field_files.iemocap_parts()
    for name, change in columns.items():
        parts[name] = change(parts[name])
    return tuple(parts.values())


def one_less(column):
    return column | {NAMES[0]: column[NAMES[0]][1:]}


BAD = {
    "a label less": (changed(labels=one_less), [NAMES[0], "1 labels", "as many of each"]),
    "a vector less": (changed(audio=one_less), [NAMES[0], "audio", "1 rows", "allowed: 2"]),
    "a name that is unknown": (changed(train=lambda _: ["Ses09"]), ["'Ses09'", "no list"]),
    "a label that is a word": (
        changed(labels=lambda x: x | {NAMES[0]: ["hap", "sad"]}),
        ["'hap'", "a number"],
    ),
    "other channels": (
        changed(text=lambda x: x | {NAMES[1]: [np.ones(2)] * 3}),
        ["'text'", "channels", "as in the first row"],
    ),
    "words among vectors": (
        changed(text=lambda x: x | {NAMES[1]: ["said"] * 3}),
        ["'text'", "a str", "(T, C) or (C,)"],
    ),
    "no utterance in a split": (changed(test=lambda _: []), ["'test'", "no utterances"]),
    "another tuple": (
        changed()[:5],
        ["holds a tuple of 5: dict, dict, dict, dict, dict", "DialogueRNN", "GCNet"],
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_what_does_not_fit_is_refused_by_name(what, tmp_path):
    tree, pieces = BAD[what]
    message = refusal(python3(tmp_path / "bad.pkl", tree), open_contents)
    for piece in pieces:
        assert piece in message
