"""CMU-MultimodalSDK's computational sequences: a .csd file a modality, a folder of them a data set.

A .csd is HDF5 with one group NAME: NAME/data/<id>/{features (T, C), intervals (T, 2)}. A file whose
name or group has 'label' in it gives the labels, (L,) of each of an id's intervals. If some id has
several, rows are those intervals, '<id>[0]', '<id>[1]', ..., with the frames that overlap them, as
the SDK's `align` has it; else rows are ids.

Modalities are joined by id. An id that one of them lacks is a row all the same, as long as another
has it: it has no frames there, and is not observed. An id without a label has NaN.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmdjax.data.formats import copying, hdf5
from mmdjax.data.formats.contents import Changes, Contents, Part
from mmdjax.data.formats.hdf5 import Dataset, Place
from mmdjax.data.formats.lazy import one_line
from mmdjax.errors import UserError

ALLOWED = "a group NAME with data/<id>/features (T, C) and data/<id>/intervals (T, 2)"
_LEAST = 1e-5  # seconds of overlap that count, as the SDK's epsilon


@dataclasses.dataclass(frozen=True)
class Sequences:
    """A file: `key` is the name of its group, `ids` are in its order."""

    path: Path
    key: str
    ids: tuple[str, ...]
    datasets: Mapping[str, Dataset]

    def name(self, one: str, what: str = "features") -> str:
        return f"{self.key}/data/{one}/{what}"

    def place(self, one: str) -> Place | None:
        """Of an id's features."""
        found = self.datasets.get(self.name(one))
        return None if found is None else hdf5.whole(self.name(one), found)

    def intervals(self, ids: Sequence[str]) -> list[np.ndarray]:
        """(T, 2) seconds of each id.

        Raises:
          UserError: not as many as there are features.
        """
        places, found = [], []
        for one in ids:
            name = self.name(one, "intervals")
            frames, given = self.place(one).stop, self.datasets.get(name)
            if given is None or given.shape != (frames, 2) or not given.is_numbers:
                what = "missing" if given is None else f"shape {given.shape} of {given.dtype}"
                raise UserError(
                    f"{one_line(self.path, 4096)}: {one_line(name)!r} is {what}; "
                    f"allowed: ({frames}, 2) numbers, a row for each of the features"
                )
            places.append(Place(name, 0, frames))
            found.append(given)
        return hdf5.read_places(self.path, places, found)


def fits(datasets: Mapping[str, Dataset]) -> bool:
    """Whether an HDF5 file is a .csd, by what it holds."""
    return len({name.split("/")[0] for name in datasets}) == 1 and any(
        _id_of(name) is not None for name in datasets
    )


def _id_of(name: str) -> str | None:
    parts = name.split("/")
    return parts[2] if len(parts) == 4 and parts[1] == "data" and parts[3] == "features" else None


def open_path(path: Path, datasets: Mapping[str, Dataset] | None = None) -> Contents:
    """Of a .csd file, or of the folder that holds several.

    Raises:
      UserError: naming the file: not a .csd, or features without their intervals.
    """
    files = sorted(path.glob("*.csd")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{one_line(path, 4096)}: no .csd files in it; allowed: at least one")
    found = [_opened(file, datasets) for file in files]
    labels = [one for one in found if "label" in f"{one.path.stem} {one.key}".lower()]
    features = [one for one in found if one not in labels]
    where = one_line(path, 4096)
    if not features:
        raise UserError(f"{where}: labels alone; allowed: a .csd of features as well")
    keys = [one.key for one in features]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise UserError(f"{where}: group {one_line(twice, 60)!r} in two files; allowed: once")
    notes = tuple(f"{one.path.name}: labels that are not used" for one in labels[1:])
    ids, label, places = _rows(features, labels[0] if labels else None)
    if not ids:
        raise UserError(f"{where}: no id has both features and a label; allowed: at least one")
    rows, observed = {}, {}
    for one, there in zip(features, places, strict=True):
        present = np.array([place is not None for place in there], bool)
        if not present.any():
            notes += (f"{one.key}: no id of the others; left out",)
            continue
        rows[one.key] = hdf5.sequences(one.path, there, one.datasets)
        if not present.all():
            observed[one.key] = present
            notes += copying.lacks(one.key, present)
    frames = {key: x.lengths for key, x in rows.items()}
    part = Part(rows, label, np.array(ids, str), frames, observed)
    by_key = {one.key: (one, there) for one, there in zip(features, places, strict=True)}

    def write(output: Path, replaced: Changes, added: Changes) -> None:
        copying.copy_folder(path, output) if path.is_dir() else shutil.copyfile(path, output)
        _write(output, by_key, part, replaced, added)

    paths = [one.path for one in found]
    return Contents(path, "csd", {"all": part}, write, notes, lambda: hdf5.close(paths))


def _opened(path: Path, datasets: Mapping[str, Dataset] | None) -> Sequences:
    datasets = hdf5.index(path) if datasets is None else datasets
    if not fits(datasets):
        raise UserError(f"{one_line(path, 4096)}: not a .csd; allowed: {ALLOWED}")
    ids = tuple(one for name in datasets if (one := _id_of(name)) is not None)
    for one in ids:
        if len(one) > 256:
            raise UserError(f"{one_line(path, 4096)}: an id of {len(one)} characters; allowed: 256")
    return Sequences(path, next(iter(datasets)).split("/")[0], ids, datasets)


def _rows(features: Sequence[Sequences], labels: Sequences | None):
    """ids, labels (N,) or (N, L) or None, and a list of places for each modality."""
    ids = list(dict.fromkeys(one for sequences in features for one in sequences.ids))
    if labels is None:
        return ids, None, [[one.place(name) for name in ids] for one in features]
    given = hdf5.sequences(labels.path, [labels.place(x) for x in labels.ids], labels.datasets)
    values = dict(zip(labels.ids, given[0 : len(given)], strict=True))
    none = np.full(given.shape[2], np.nan)
    if given.lengths.max() <= 1:
        label = [values[name][0] if len(values.get(name, ())) else none for name in ids]
        return ids, _labels(label), [[one.place(name) for name in ids] for one in features]
    known = set(ids)
    videos = [name for name in labels.ids if name in known]
    segments = dict(zip(videos, labels.intervals(videos), strict=True))
    rows = [
        (name, i)
        for name in videos
        for i, (start, end) in enumerate(segments[name])
        if abs(end - start) > _LEAST
    ]
    places = []
    for one in features:
        there = [name for name in videos if one.place(name) is not None]
        times = dict(zip(there, one.intervals(there), strict=True))
        places.append(
            [
                _overlap(one, name, times[name], segments[name][i]) if name in times else None
                for name, i in rows
            ]
        )
    label = [values[name][i] for name, i in rows]
    return [f"{name}[{i}]" for name, i in rows], _labels(label), places


def _labels(label: list[np.ndarray]) -> np.ndarray | None:
    made = np.array(label, np.float32) if label else np.zeros((0, 1), np.float32)
    return made[:, 0] if made.shape[1] == 1 else made


def _overlap(one: Sequences, name: str, times: np.ndarray, segment: np.ndarray) -> Place | None:
    """The frames that overlap a segment in time; None where there are none."""
    if (np.diff(times[:, 0]) < 0).any():
        where = f"{one_line(one.path, 4096)}: {one_line(one.name(name, 'intervals'))!r}"
        raise UserError(f"{where}: do not ascend; allowed: intervals in order of their start")
    common = np.minimum(times[:, 1], segment[1]) - np.maximum(times[:, 0], segment[0])
    at = np.flatnonzero(common > _LEAST)
    return Place(one.name(name), int(at[0]), int(at[-1]) + 1) if len(at) else None


def _write(output: Path, by_key, part: Part, replaced: Changes, added: Changes) -> None:
    """Into a copy. Added arrays are NAME/<key>/<row>, in the file of their modality."""
    changed = set()
    for (_, key), rows in replaced.items():
        one, places = by_key[key]
        path = output / one.path.name if output.is_dir() else output
        changed.add(path)
        for row, (name, place) in enumerate(zip(part.id.tolist(), places, strict=True)):
            new = np.asarray(rows[row])
            if place is not None:
                hdf5.write(path, place.name, _as_stored(one, place, new), place.start, create=False)
            elif len(new):
                _create(path, one, name, new.astype(rows.dtype), by_key)
    for (_, key), rows in added.items():
        one, _ = by_key[copying.owner(key, by_key)]
        path = output / one.path.name if output.is_dir() else output
        changed.add(path)
        for row, name in enumerate(part.id.tolist()):
            hdf5.write(path, f"{one.key}/{key}/{name}", np.atleast_1d(np.asarray(rows[row])))
    hdf5.close(changed)


def _as_stored(one: Sequences, place: Place, new: np.ndarray) -> np.ndarray:
    stored = one.datasets[place.name]
    return new.astype(stored.dtype).reshape(-1, *stored.shape[1:])


def _create(path: Path, one: Sequences, name: str, new: np.ndarray, by_key) -> None:
    """An id that the file lacked, with the intervals of a modality of as many frames, or even ones
    over the time that the others take."""
    others = [other for other, _ in by_key.values() if other.place(name) is not None]
    times = [other.intervals([name])[0] for other in others]
    if not times:
        raise UserError(
            f"{one_line(one.path, 4096)}: {one_line(name, 60)!r} is part of an id that the file "
            "lacks; allowed: frames for whole ids, or for those it has"
        )
    same = [x for x in times if len(x) == len(new)]
    ends = np.linspace(min(x.min() for x in times), max(x.max() for x in times), len(new) + 1)
    made = same[0] if same else np.stack([ends[:-1], ends[1:]], 1)
    hdf5.write(path, one.name(name), new)
    hdf5.write(path, one.name(name, "intervals"), made)
