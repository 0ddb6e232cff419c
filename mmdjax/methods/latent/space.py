"""The latent space as compiled functions over whole splits: encode, draw, align, predict."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.data.stored import blocks, is_stored, kept
from mmdjax.methods.batches import by_length, in_batches
from mmdjax.methods.latent.cover import filled_valid
from mmdjax.methods.latent.draw import Drawer, make_drawer
from mmdjax.methods.latent.initial import initial, initial_decoder, initial_score
from mmdjax.methods.latent.modules import Modules, Scale, build, encode_gaps, raw
from mmdjax.methods.latent.scaling import scale_of, scaled
from mmdjax.methods.latent.work_list import bucket_of, calls, draw_missing
from mmdjax.methods.method import Method
from mmdjax.networks.alignment import AlignmentDecoder
from mmdjax.networks.encoders import Encoders, Reconstruction, UnimodalHeads
from mmdjax.runtime.compilation import shared
from mmdjax.runtime.devices import on_all_devices, over_devices
from mmdjax.types import Batch, Latents, Params, known_labels

if TYPE_CHECKING:
    from mmdjax.data.dataset import Dataset
    from mmdjax.runtime.progress import Reporter
    from mmdjax.tasks import Task

MOST_KEPT = 2  # encoders whose latents of all splits stay in memory


@shared
def compiled_encode(encoders: Encoders) -> Callable[..., Any]:
    return jax.jit(encoders.apply)


@shared
def compiled_encode_gaps(modules: Modules) -> Callable[..., Any]:
    return jax.jit(functools.partial(encode_gaps, modules))


@shared
def compiled_align(decoder: AlignmentDecoder) -> Callable[..., jax.Array]:
    return jax.jit(lambda params, *rows: over_devices(decoder.apply, (params,), rows, (0, 0), 0))


@shared
def compiled_predict(fusion: nn.Module, task: Task) -> Callable[..., jax.Array]:
    def rows_of(params, scale, z, valid, observed):
        given = raw(z, valid, scale), valid
        return task.read(fusion.apply(params, *given, observed=observed))

    return jax.jit(lambda params, *rows: over_devices(rows_of, params, rows, (0, 0, 0), 0))


class Space(Method):
    """A method's latent space, as compiled functions over whole splits.

    Parameters are arguments, so nothing compiles twice.

    Class attributes:
      standardises: whether latents are put on a scale of unit variance.

    Attributes:
      splits: standardised.
      patterns: (P, M) availability patterns, the complete one last.
    """

    standardises = True

    def __init__(self, config: Any, dataset: Dataset, reporter: Reporter) -> None:
        """See `Method`."""
        super().__init__(config, dataset, reporter)
        self.splits, self.patterns = dataset.standardised, dataset.patterns
        self.buckets = config.data.length_buckets
        self.modules = build(config, self.modalities, self.task.outputs)
        self._encode = compiled_encode(self.modules.encoders)
        self._encode_gaps = compiled_encode_gaps(
            self.modules._replace(fusion=None, score=None, decoder=None)
        )
        self._align = compiled_align(self.modules.decoder)
        self._predict = compiled_predict(self.modules.fusion, self.task)

    @functools.cached_property
    def drawer(self) -> Drawer:
        """The compiled draw of the config; made on first use, since constant fills need none."""
        return make_drawer(self.modules, self.config.diffusion)

    @functools.cached_property
    def bucket(self) -> dict[str, np.ndarray]:
        """Split -> (N,) index into `buckets` of each utterance."""
        key = ("buckets", self.config.latents.frames, self.buckets)
        return self.dataset.shared(key, self._bucket)

    @property
    def labelled(self) -> np.ndarray:
        """Rows of the training split that have a label."""
        return np.flatnonzero(known_labels(self.splits["train"].label))

    @property
    def reconstructs(self) -> bool:
        """Whether encoders learn from utterances without a label."""
        some = len(self.labelled) < len(self.splits["train"])
        return some and self.config.latents.reconstruction > 0

    @property
    def heads(self) -> UnimodalHeads | None:
        """The prediction from each modality alone, None where it has no weight."""
        return (
            UnimodalHeads(self.modalities, self.task.outputs)
            if self.config.latents.unimodal
            else None
        )

    def _bucket(self) -> dict[str, np.ndarray]:
        # Which latent frames are valid does not depend on the encoders' parameters.
        params = self.init_encoders(jax.random.key(0))

        def of_split(batch: Batch) -> np.ndarray:
            if not is_stored(batch):
                return bucket_of(self.encode(params, batch).valid, self.buckets)
            if len(self.buckets) == 1:
                return np.zeros(len(batch), np.int8)
            parts = (bucket_of(z.valid, self.buckets) for z in self._encoded(params, batch))
            return np.concatenate([part.astype(np.int8) for part in parts])

        return {name: of_split(batch) for name, batch in self.splits.items()}

    def init_encoders(self, key: jax.Array) -> Params:
        return initial(self.modules.encoders)(key, *self._one())

    def _one(self) -> list[dict]:
        """Features and their frames of one utterance, for their shapes."""
        train = self.splits["train"]
        return [{m: x[:1] for m, x in part.items()} for part in (train.features, train.valid)]

    def initial_classifier(self, key: jax.Array) -> dict:
        """{'encoders', 'fusion'}."""
        key_encoders, key_fusion = jax.random.split(key)
        x, valid = self._zeros()
        params = {
            "encoders": self.init_encoders(key_encoders),
            "fusion": initial(self.modules.fusion)(key_fusion, x, valid),
        }
        if self.reconstructs:
            key = jax.random.fold_in(key, 1)
            init = initial(Reconstruction(self.modalities))
            params["reconstruction"] = init(key, x, *self._one())
        if self.heads is not None:
            params["heads"] = initial(self.heads)(jax.random.fold_in(key, 2), x, valid)
        return params

    def initial_score(self, key: jax.Array) -> Params:
        """Parameters of the score networks, stacked over M."""
        return initial_score(self.modules.score)(key)

    def initial_decoder(self, key: jax.Array) -> Params:
        """Parameters of the alignment decoders, stacked over M."""
        return initial_decoder(self.modules.decoder)(key, *self._zeros())

    def _zeros(self) -> tuple[jax.Array, jax.Array]:
        """Latents and their frames of one utterance, for their shapes."""
        shape = (1, len(self.modalities), self.config.latents.frames)
        return jnp.zeros((*shape, self.config.latents.channels)), jnp.ones(shape, bool)

    def encode(self, params: Params, batch: Batch) -> Latents:
        """Latents of a split, not standardised; where features are stored, so are they."""
        if is_stored(batch):
            parts = (z._asdict() for z in self._encoded(params, batch))
            table = kept(({"x": part["x"], "valid": part["valid"]} for part in parts), len(batch))
            return Latents(*table.columns().values(), batch.label)
        names = self.modalities
        arrays = [batch.features[m] for m in names] + [batch.valid[m] for m in names]

        def call(*columns):
            features = dict(zip(names, columns[: len(names)], strict=True))
            valid = dict(zip(names, columns[len(names) :], strict=True))
            return self._encode(params, features, valid)

        x, valid = in_batches(call, arrays, self.config.evaluation.batch)
        return Latents(x, valid, batch.label)

    def _encoded(self, params: Params, batch: Batch) -> Iterator[Latents]:
        """Latents of a stored split, block by block."""
        for rows in blocks(len(batch), self.config.evaluation.batch):
            yield self.encode(params, batch.at(np.arange(rows.start, rows.stop)))

    def encode_gaps(
        self, params: Params, scale: Scale, batch: Batch, observed: Mapping[str, np.ndarray]
    ) -> tuple[Latents, np.ndarray]:
        """Standardised latents of what is observed of a split, valid where frames exist, and what
        they rest on (N, M, T), see `modules.encode_gaps`.

        Args:
          observed: modality -> (N, T_m) bool.
        """
        names, size = self.modalities, self.config.evaluation.batch
        arrays = [part[m] for part in (batch.features, batch.valid, observed) for m in names]

        def call(*columns):
            thirds = [columns[i * len(names) : (i + 1) * len(names)] for i in range(3)]
            named = (dict(zip(names, third, strict=True)) for third in thirds)
            return self._encode_gaps(params, scale, *named)

        x, cover = in_batches(call, arrays, size)
        return Latents(x, self.encode(params, batch).valid, batch.label), cover

    def standardised(self, encoders: Params) -> tuple[Scale, dict[str, Latents]]:
        """Return the scale of the training split's valid latent frames, and all splits on it.

        Systems that share the encoders share the answer, for as long as others do not follow.
        """
        latents = self.dataset.shared("latents", collections.OrderedDict)
        key = (id(encoders), self.config.latents, self.standardises)
        if key not in latents:
            # The encoders are kept beside it, so that their id stays theirs.
            latents[key] = (encoders, self._standardised(encoders))
            while len(latents) > MOST_KEPT:
                latents.popitem(last=False)
        return latents[key][1]

    def _standardised(self, encoders: Params) -> tuple[Scale, dict[str, Latents]]:
        raw = {name: self.encode(encoders, batch) for name, batch in self.splits.items()}
        if not self.standardises:
            return self.identity_scale(), raw
        scale = scale_of(raw["train"])
        return scale, {name: scaled(latents, scale) for name, latents in raw.items()}

    def identity_scale(self) -> Scale:
        """For latents that are not standardised."""
        shape = (len(self.modalities), self.config.latents.channels)
        return Scale(np.zeros(shape, np.float32), np.ones(shape, np.float32))

    def constant(self, fill: str, scale: Scale) -> np.ndarray:
        """(M, D) standardised latent that stands for a missing frame: raw zero, or the mean."""
        return -scale.mean / scale.std if fill == "zero" else np.zeros_like(scale.mean)

    def predict_latents(
        self, params: Params, scale: Scale, z: np.ndarray, valid: np.ndarray, observed: np.ndarray
    ) -> np.ndarray:
        """Return predictions (R, ...), as the task's `read` gives them.

        Args:
          params: {'fusion', 'decoder' or absent}.
          z: (R, M, T, D) completed latents. valid: (R, M, T) as of the file. observed: (R, M).
        """
        if "decoder" in params:
            z = self.align(params["decoder"], z, valid, observed)
        mask, batch = filled_valid(valid, observed), self.config.evaluation.batch
        shared = on_all_devices((params["fusion"], scale), batch)
        return by_length(
            lambda n, z, mask, seen: self._predict(shared, z[:, :, :n], mask[:, :, :n], seen),
            (z, mask, observed),
            bucket_of(mask, self.buckets),
            self.buckets,
            batch,
        )

    def align(
        self, decoder: Params, z: np.ndarray, valid: np.ndarray, observed: np.ndarray
    ) -> np.ndarray:
        """Completed latents (R, M, T, D) after the alignment decoder: missing ones only."""
        mask, result = filled_valid(valid, observed), z.copy()
        bucket = bucket_of(mask, self.buckets)
        decoder = jax.device_get(decoder)  # taking a modality's part on a device is a program
        for m in range(z.shape[1]):
            params = jax.tree.map(lambda a, m=m: a[m], decoder)
            params = on_all_devices(params, self.config.evaluation.batch)
            for index, frames in enumerate(self.buckets):
                rows = np.flatnonzero(~observed[:, m] & (bucket == index))
                if rows.size:
                    result[rows, m, :frames] = in_batches(
                        lambda *part, p=params: self._align(p, *part),
                        (z[rows, m, :frames], mask[rows, m, :frames]),
                        self.config.evaluation.batch,
                    )
        return result

    def draw_latents(
        self,
        score: Params,
        latents: Latents,
        observed: np.ndarray,
        ids: np.ndarray,
        draw_index: np.ndarray,
        key: jax.Array,
        name: str,
        drawer: Drawer | None = None,
    ) -> tuple[np.ndarray, int]:
        """`draw_missing` on standardised latents, with a progress bar called `name`.

        Args:
          draw_index: (R, K).
          name: '' for a block of rows, of whose progress the caller tells.
          drawer: the config's by default.
        """
        batch, drawer = self.config.evaluation.batch, drawer or self.drawer
        rows, settings = (latents.x, latents.valid, observed, ids, draw_index), (key, self.buckets)
        if not name:
            return draw_missing(drawer, score, *rows, *settings, batch)
        total = calls(
            drawer, observed, latents.valid, self.buckets, batch, draws=draw_index.shape[1]
        )
        with self.reporter.phase(name, total) as progress:
            return draw_missing(drawer, score, *rows, *settings, batch, progress.advance)
