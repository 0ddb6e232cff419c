"""The embedded data set: emotions as a Gaussian mixture over all modalities jointly.

A latent z = (valence, arousal, dominance) is Gaussian around the centre of one of G emotions.
Modality m shows the part of z that it can see, blurred by a disturbance of its own that no
averaging over frames removes, through a smooth random projection to (T_m, C_m), plus white noise:

    x_m = L_m (V_m z + b_{m,g} + rho_m u_m) + s_m e,   y = clip(c'z + 0.3 e', -3, 3).

Language sees valence almost clearly. Acoustics see arousal, and an offset b whose sign is the
product of valence and arousal: they tell valence only to who combines the two. Vision sees a weak
valence. So every conditional law, score and Bayes-optimal prediction is exact (`mixture.py`), and
filling with a constant is not. `Law` takes any two to six modalities; `FIVE` adds gaze, which sees
dominance, and physiology, a second witness of arousal, to these three. Other labels of the same
utterances, z and g among them, are those of `synthetic_labels.py`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mmdjax.data.dataset import Optimum
from mmdjax.data.settings import Data
from mmdjax.data.sources import mixture, synthetic_labels
from mmdjax.data.sources.synthetic_parts import Generators, Parts
from mmdjax.errors import UserError, choice
from mmdjax.types import Batch, Observed

# Centres of valence, arousal, dominance: joy, contentment, anger, sadness, surprise, calm.
EMOTIONS = np.array(
    [
        [1.3, 1.0, 0.5],
        [1.0, -1.0, 0.3],
        [-1.2, 1.1, 0.8],
        [-1.3, -1.0, -0.6],
        [0.4, 1.4, -0.5],
        [-0.3, -0.6, 0.2],
    ]
)
FREQUENCY = np.array([0.22, 0.18, 0.2, 0.18, 0.12, 0.1])
LATENT_STD = 0.45
LABEL_READOUT = np.array([1.35, 0.1, 0.0])
LABEL_NOISE = 0.3


@dataclasses.dataclass(frozen=True)
class Modality:
    """frames T_m, channels C_m (at least 4); gain on each latent and on the offset; rho and s as
    above."""

    frames: int
    channels: int
    gain: Sequence[float]
    offset: float
    disturbance: float
    noise: float


MODALITIES = {
    "language": Modality(8, 8, (1.0, 0.4, 0.6), 0.0, 0.35, 0.3),
    "acoustic": Modality(12, 5, (0.1, 1.0, 0.3), 1.0, 0.55, 0.4),
    "vision": Modality(10, 6, (0.5, 0.2, 0.8), 0.3, 0.6, 0.4),
}
FIVE = MODALITIES | {
    "gaze": Modality(6, 4, (0.3, 0.0, 1.0), 0.0, 0.5, 0.4),
    "physiology": Modality(16, 4, (0.0, 0.9, 0.2), 0.5, 0.7, 0.5),
}
LAWS = {"synthetic": MODALITIES, "synthetic_five": FIVE}  # source -> its modalities
FACTORS = 4  # columns of a loading: z and the offset


class Law:
    """The joint law of (features..., label before clipping), and what follows from it exactly.

    Attributes:
      shapes: modality -> (T_m, C_m).
      mixture: of (features..., label before clipping).
      with_latents: of the same and z, which stands at `latents`.
    """

    def __init__(self, seed: int = 0, modalities: Mapping[str, Modality] = MODALITIES) -> None:
        """modalities: in the order of the modality axis; laws of one seed agree on the first ones
        that they have in common.

        Raises:
          UserError: not two to six modalities, or one that its channels cannot show.
        """
        _check(modalities)
        rng = np.random.default_rng(seed)
        self.shapes = {name: (m.frames, m.channels) for name, m in modalities.items()}
        readout, offsets, noise = [], [], []
        product = EMOTIONS[:, 0] * EMOTIONS[:, 1]
        for m in modalities.values():
            loading = _smooth_loading(rng, m)
            # Columns: z, then the disturbance of each modality (one 4-vector each).
            readout.append((loading @ np.vstack([np.diag(m.gain), np.zeros(3)]), loading))
            offsets.append(np.sign(product)[:, None] * m.offset * loading[:, 3])
            noise.append(np.full(len(loading), m.noise**2))
        mean = np.concatenate(
            [EMOTIONS @ r.T + b for (r, _), b in zip(readout, offsets, strict=True)]
            + [(EMOTIONS @ LABEL_READOUT)[:, None]],
            axis=1,
        )
        shared = np.concatenate([r for r, _ in readout] + [LABEL_READOUT[None]])
        cov = LATENT_STD**2 * shared @ shared.T
        cov += np.diag(np.concatenate([*noise, [LABEL_NOISE**2]]))
        for name, (_, loading) in zip(modalities, readout, strict=True):
            at = self.indices([name])
            cov[np.ix_(at, at)] += modalities[name].disturbance ** 2 * loading @ loading.T
        self.mixture = mixture.Mixture(FREQUENCY, mean, np.tile(cov, (len(FREQUENCY), 1, 1)))
        with_z = LATENT_STD**2 * shared
        cov = np.block([[cov, with_z], [with_z.T, LATENT_STD**2 * np.eye(len(LABEL_READOUT))]])
        self.latents = np.arange(len(shared), len(cov))
        self.with_latents = mixture.Mixture(
            FREQUENCY, np.hstack([mean, EMOTIONS]), np.tile(cov, (len(FREQUENCY), 1, 1))
        )

    def fingerprint(self) -> str:
        """Return what changes with any number of the law."""
        parts = (self.mixture.weight, self.mixture.mean, self.mixture.cov)
        return hashlib.sha256(b"".join(a.round(9).tobytes() for a in parts)).hexdigest()

    def indices(self, modalities: Sequence[str]) -> np.ndarray:
        """Return where the modalities stand in the joint vector; the label stands at -1."""
        sizes = [frames * channels for frames, channels in self.shapes.values()]
        ends = dict(zip(self.shapes, np.cumsum(sizes), strict=True))
        places = [np.arange(ends[m] - np.prod(self.shapes[m]), ends[m]) for m in modalities]
        return np.concatenate([np.arange(0), *places])

    def flatten(self, features: Mapping[str, np.ndarray], modalities: Sequence[str]) -> np.ndarray:
        """Return (N, sum of T_m C_m) float64."""
        rows = len(next(iter(features.values())))
        parts = [np.asarray(features[m], np.float64).reshape(rows, -1) for m in modalities]
        return np.concatenate(parts or [np.zeros((rows, 0))], axis=1)

    def label_law(self, given: np.ndarray, values: np.ndarray) -> mixture.Conditional:
        """Return the exact law of the unclipped label, one-dimensional.

        Args:
          given: indices of observed entries of the joint vector. values: (N, len(given)).
        """
        return self.mixture.condition(np.array([self.latents[0] - 1]), given, values)

    def label_posterior(
        self, given: Sequence[str], features: Mapping[str, np.ndarray]
    ) -> mixture.Conditional:
        """Return the exact law of the unclipped label given whole modalities."""
        return self.label_law(self.indices(given), self.flatten(features, given))

    def bayes_prediction(
        self, given: Sequence[str], features: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """Return (N,) posterior medians, clipped: optimal for MAE and ACC2 (`mixture.median`)."""
        return np.clip(mixture.median(self.label_posterior(given, features)), -3, 3)

    def sample(self, count: int, seed: int, prefix: str, labels: str = "sentiment") -> Batch:
        """Draw `count` utterances, with labels of `synthetic_labels.TASKS`."""
        return self.part(range(count), Generators.of(seed, count), prefix, labels)

    def part(self, rows: range, generators: Generators, prefix: str, labels: str) -> Batch:
        """Draw some utterances; the generators stand where those before them have left them."""
        everything, count = np.arange(self.mixture.mean.shape[1]), len(rows)
        law = self.mixture.condition(everything, everything[:0], np.zeros((count, 0)))
        joint = law.sample(*generators[:2])
        features = {
            name: joint[:, self.indices([name])].reshape(count, *shape).astype(np.float32)
            for name, shape in self.shapes.items()
        }
        valid = {name: np.ones((count, s[0]), bool) for name, s in self.shapes.items()}
        label = synthetic_labels.draw(self, labels, joint, *generators[2:])
        return Batch(features, valid, label, np.array([f"{prefix}_{i}" for i in rows]))


def _check(modalities: Mapping[str, Modality]) -> None:
    if not 2 <= len(modalities) <= 6:
        raise UserError(f"synthetic data of {len(modalities)} modalities; allowed: 2 to 6")
    for name, m in modalities.items():
        if m.channels < FACTORS or m.frames < 1 or len(m.gain) != EMOTIONS.shape[1]:
            raise UserError(
                f"synthetic modality {name!r} has {m.frames} frames, {m.channels} channels and "
                f"{len(m.gain)} gains; allowed: at least 1, at least {FACTORS}, "
                f"{EMOTIONS.shape[1]}"
            )


def _smooth_loading(rng: np.random.Generator, m: Modality) -> np.ndarray:
    """Draw (T_m C_m, 4): four factors, each a channel direction with a slow course in time."""
    time, size = np.linspace(0, 1, m.frames)[:, None], FACTORS
    speed, phase = rng.uniform(0.3, 1.0, size), rng.uniform(size=size)
    course = 1 + 0.5 * np.cos(2 * np.pi * (time * speed + phase))
    direction = np.linalg.qr(rng.standard_normal((m.channels, m.channels)))[0][:, :FACTORS]
    return (course[:, None] * direction).reshape(-1, FACTORS)


def read(
    train: int,
    valid: int,
    test: int,
    seed: int,
    modalities: Mapping[str, Modality] = MODALITIES,
    labels: str = "sentiment",
) -> dict[str, Batch]:
    """Draw the three splits, from one law, with independent draws.

    Args:
      train, valid, test: utterances.
      seed: of the law and of the draws.
      modalities: see `Law`.
      labels: of `synthetic_labels.TASKS`; they change no feature.

    Raises:
      UserError: unknown labels, or see `Law`.
    """
    choice("labels", labels, synthetic_labels.TASKS)
    law = Law(seed, modalities)
    return {
        name: law.sample(size, seed * 1000 + 1 + k, name, labels)
        for k, (name, size) in enumerate({"train": train, "valid": valid, "test": test}.items())
    }


def blocks(
    train: int,
    valid: int,
    test: int,
    seed: int,
    modalities: Mapping[str, Modality] = MODALITIES,
    labels: str = "sentiment",
) -> dict[str, list[Callable[[], Batch]]]:
    """Return what draws the splits of `read` in blocks of `FILE_ROWS` utterances, in order.

    The random numbers are the same; features of splits of several blocks agree up to the rounding
    of float64.
    """
    choice("labels", labels, synthetic_labels.TASKS)
    law = Law(seed, modalities)
    sizes = {"train": train, "valid": valid, "test": test}
    return {
        name: Parts(law, size, seed * 1000 + 1 + k, name, labels).all()
        for k, (name, size) in enumerate(sizes.items())
    }


def optimum(data: Data) -> Callable[[Batch, Observed, bool], Optimum]:
    """Return the optimum given any observed frames, under the Gaussian mixture.

    Args:
      data: `mmdjax.data.settings.Data` of a synthetic set.
    """
    law = Law(data.seed, LAWS[data.name])

    def answer(batch: Batch, observed: Observed, alone: bool = False) -> Optimum:
        names = batch.modalities
        values, columns = law.flatten(batch.features, names), law.indices(names)
        frames = observed.of_frames(batch.valid)
        shown = np.concatenate(
            [np.repeat(frames[m], batch.features[m].shape[2], axis=2) for m in names], axis=2
        )
        predictions = []
        for under_condition in shown:
            # One Gaussian regression serves all utterances that lack the same entries.
            patterns, which = np.unique(under_condition, axis=0, return_inverse=True)
            rows = [np.flatnonzero(which.reshape(-1) == index) for index in range(len(patterns))]
            parts = [
                synthetic_labels.optimum(law, data.labels, columns[pattern], values[at][:, pattern])
                for pattern, at in zip(patterns, rows, strict=True)
            ]
            order = np.argsort(np.concatenate(rows))
            predictions.append(np.concatenate(parts)[order].astype(np.float32))
        return Optimum(np.stack(predictions), None)

    return answer
