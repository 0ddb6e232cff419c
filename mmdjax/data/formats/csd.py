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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mmdjax.data.formats import budget, folders, hdf5
from mmdjax.data.formats.contents import Changes, Contents, Part
from mmdjax.data.formats.hdf5 import Dataset, Place
from mmdjax.data.formats.lazy import Ragged, quoted, refused

ALLOWED = "a group NAME with data/<id>/features (T, C) and data/<id>/intervals (T, 2)"
_LEAST = 1e-5  # seconds of overlap that count, as the SDK's epsilon


@dataclasses.dataclass(frozen=True)
class Sequences:
    """A file: `key` is the name of its group, `ids` are in its order."""

    path: Path
    key: str
    ids: tuple[str, ...]
    datasets: Mapping[str, Dataset]

    def name(self, id: str, kind: str = "features") -> str:
        """Return the name of an id's dataset."""
        return f"{self.key}/data/{id}/{kind}"

    def place(self, id: str) -> Place | None:
        """Return the place of an id's features."""
        dataset = self.datasets.get(self.name(id))
        return None if dataset is None else hdf5.whole(self.name(id), dataset)

    def intervals(self, ids: Sequence[str]) -> list[np.ndarray]:
        """Return (T, 2) seconds of each id.

        Raises:
          UserError: not as many as there are features.
        """
        places, datasets = [], []
        for id in ids:
            name, frames = self.name(id, "intervals"), self.place(id).stop
            dataset = self.datasets.get(name, Dataset((), ""))
            if dataset.shape != (frames, 2) or not dataset.is_numbers:
                problem = (
                    f"shape {dataset.shape} of {dataset.dtype}" if dataset.dtype else "missing"
                )
                allowed = f"({frames}, 2) numbers, a row for each of the features"
                raise refused(self.path, f"{quoted(name, 300)} is {problem}", allowed)
            places.append(Place(name, 0, frames))
            datasets.append(dataset)
        return hdf5.read_places(self.path, places, datasets)


def fits(datasets: Mapping[str, Dataset]) -> bool:
    """Return whether an HDF5 file is a .csd, by what it holds."""
    return len({name.split("/")[0] for name in datasets}) == 1 and any(map(_id_of, datasets))


def _id_of(name: str) -> str | None:
    names = name.split("/")
    return names[2] if len(names) == 4 and names[1::2] == ["data", "features"] else None


def open_path(path: Path, datasets: Mapping[str, Dataset] | None = None) -> Contents:
    """Open a .csd file, or the folder that holds several.

    Raises:
      UserError: naming the file: not a .csd, or features without their intervals.
    """
    files = sorted(path.glob("*.csd")) if path.is_dir() else [path]
    if not files:
        raise refused(path, "no .csd files in it", "at least one")
    opened = [_opened(file, datasets) for file in files]
    labels = [file for file in opened if "label" in f"{file.path.stem} {file.key}".lower()]
    by_key: dict[str, Sequences] = {}
    for file in opened:
        if file in labels:
            continue
        if file.key in by_key:
            raise refused(path, f"group {quoted(file.key)} in two files", "once")
        by_key[file.key] = file
    if not by_key:
        raise refused(path, "labels alone", "a .csd of features as well")
    ids, label, places = _rows(by_key, labels[0] if labels else None)
    if not ids:
        raise refused(path, "no id has both features and a label", "at least one")

    def read(key: str, in_file: Sequence[Place | None]) -> Ragged:
        return hdf5.sequences(by_key[key].path, in_file, by_key[key].datasets)

    part, missing = folders.joined(path, ids, label, places, read)
    notes = tuple(f"{file.path.name}: labels that are not used" for file in labels[1:])

    def write(output: Path, replaced: Changes, added: Changes) -> None:
        folders.copy(path, output)
        _write(output, by_key, places, part, replaced, added)

    return Contents(path, "csd", {"all": part}, write, notes + missing, lambda: hdf5.close(files))


def _opened(path: Path, datasets: Mapping[str, Dataset] | None) -> Sequences:
    datasets = hdf5.index(path) if datasets is None else datasets
    if not fits(datasets):
        raise refused(path, "not a .csd", ALLOWED)
    ids = tuple(id for name in datasets if (id := _id_of(name)) is not None)
    if (longest := max(map(len, ids))) > 256:
        raise refused(path, f"an id of {longest} characters", "256")
    return Sequences(path, next(iter(datasets)).split("/")[0], ids, datasets)


def _rows(
    features: Mapping[str, Sequences], labels: Sequences | None
) -> tuple[list[str], np.ndarray | None, dict[str, list[Place | None]]]:
    """Return ids, labels (N,) or (N, L) or None, and key -> a list of places."""
    ids = list(dict.fromkeys(id for file in features.values() for id in file.ids))
    whole = {key: [file.place(id) for id in ids] for key, file in features.items()}
    if labels is None:
        return ids, None, whole
    stored = hdf5.sequences(labels.path, [labels.place(x) for x in labels.ids], labels.datasets)
    values = dict(zip(labels.ids, stored[0 : len(stored)], strict=True))
    if stored.lengths.max() <= 1:
        unknown = np.full(stored.shape[2], np.nan)
        return (
            ids,
            _labels([values[x][0] if len(values.get(x, ())) else unknown for x in ids]),
            whole,
        )
    known = set(ids)
    videos = [id for id in labels.ids if id in known]
    segments = dict(zip(videos, labels.intervals(videos), strict=True))
    rows = [
        (id, i)
        for id in videos
        for i, (start, end) in enumerate(segments[id])
        if abs(end - start) > _LEAST
    ]
    places: dict[str, list[Place | None]] = {}
    for key, file in features.items():
        present = [id for id in videos if file.place(id) is not None]
        times = zip(present, file.intervals(present), strict=True)
        ordered = {id: _ordered(file, id, of_id) for id, of_id in times}
        places[key], seen = [], 0
        for id, i in rows:
            near = _near(*ordered[id], segments[id][i]) if id in ordered else range(0)
            # intervals within each other: many segments may have to look at all frames
            budget.check(file.path, "overlaps of intervals", 8 * (seen := seen + len(near)))
            place = _overlap(ordered[id][0], near, segments[id][i]) if near else None
            places[key].append(place and Place(file.name(id), *place))
    return [f"{id}[{i}]" for id, i in rows], _labels([values[id][i] for id, i in rows]), places


def _labels(label: list[np.ndarray]) -> np.ndarray:
    array = np.array(label, np.float32) if label else np.zeros((0, 1), np.float32)
    return array[:, 0] if array.shape[1] == 1 else array


def _ordered(file: Sequences, id: str, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return intervals (T, 2) in order of their start, and (T,) the latest end up to each."""
    if not (np.diff(times[:, 0]) >= 0).all():
        where = f"{file.path}: {quoted(file.name(id, 'intervals'), 300)}"
        raise refused(where, "do not ascend", "intervals in order of their start")
    return times, np.fmax.accumulate(times[:, 1])


def _near(times: np.ndarray, latest: np.ndarray, segment: np.ndarray) -> range:
    """Return the frames among which are all that overlap a segment in time."""
    first = int(np.searchsorted(latest, segment[0], "right"))
    return range(first, int(np.searchsorted(times[:, 0], segment[1], "left")))


def _overlap(times: np.ndarray, near: range, segment: np.ndarray) -> tuple[int, int] | None:
    """Return the first frame that overlaps a segment, and the one after the last, if any does."""
    chosen = times[near.start : near.stop]
    common = np.minimum(chosen[:, 1], segment[1]) - np.maximum(chosen[:, 0], segment[0])
    at = near.start + np.flatnonzero(common > _LEAST)
    return (int(at[0]), int(at[-1]) + 1) if len(at) else None


def _write(
    output: Path,
    by_key: Mapping[str, Sequences],
    places: Mapping[str, Sequence[Place | None]],
    part: Part,
    replaced: Changes,
    added: Changes,
) -> None:
    """Write into a copy; added arrays are NAME/<key>/<row>, in the file of their modality."""

    def copy_of(file: Sequences) -> Path:
        return output / file.path.name if output.is_dir() else output

    for (_, key), rows in replaced.items():
        file = by_key[key]

        def create(row: int, new: np.ndarray, file: Sequences = file) -> None:
            _create(copy_of(file), file, str(part.id[row]), new, by_key.values())

        hdf5.replace(copy_of(file), places[key], file.datasets, rows, create)
    for (_, key), rows in added.items():
        file = by_key[folders.owner(key, by_key)]
        for row, id in enumerate(part.id.tolist()):
            name = f"{file.key}/{key}/{id}"
            hdf5.write(copy_of(file), name, np.atleast_1d(np.asarray(rows[row])))
    hdf5.close(map(copy_of, by_key.values()))


def _create(
    path: Path, file: Sequences, id: str, new: np.ndarray, files: Iterable[Sequences]
) -> None:
    """Write an id that the file lacked, with the intervals of a modality of as many frames, or even
    ones over the time that the others take."""
    times = [other.intervals([id])[0] for other in files if other.place(id) is not None]
    if not times:
        problem = f"{quoted(id)} is part of an id that the file lacks"
        raise refused(file.path, problem, "frames for whole ids, or for those it has")
    ends = np.linspace(min(x.min() for x in times), max(x.max() for x in times), len(new) + 1)
    even = np.stack([ends[:-1], ends[1:]], 1)
    hdf5.write(path, file.name(id), new)
    hdf5.write(
        path, file.name(id, "intervals"), next((x for x in times if len(x) == len(new)), even)
    )
