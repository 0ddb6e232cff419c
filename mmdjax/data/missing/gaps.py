"""Which frames are observed, by how data go missing: seeded, one sample at a time.

| name              | what is missing                                                     |
| ----------------- | ------------------------------------------------------------------- |
| `mcar`            | single frames, each with probability `rate`, independently          |
| `burst`           | runs of frames: a two-state Markov chain (Gilbert, 1960)            |
| `block`           | one run of round(rate T) frames of each modality, anywhere          |
| `correlated`      | whole modalities, those of a group together (camera and light)      |
| `imbalanced`      | whole modalities, each with a rate of its own                       |
| `label_dependent` | whole modalities, the more often the larger the label (or its size) |

A sample's mask is a function of (seed, number of the sample): it depends neither on other samples,
nor on their order, nor on padding (`sample_random.py`).

Something of every sample is observed. Where single frames are missing, a sample that would lose all
F of its frames keeps one, a uniform choice: that lowers the expected rate by P(all) / F, which each
generator states. Where whole modalities are missing, the laws are over the 2^M - 1 patterns that
keep one (`pattern_laws.py`), and their rates are exact; a sample that keeps nothing but modalities
of no frames is given another one besides, that of a frame chosen uniformly.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from mmdjax.data.missing.pattern_laws import bisect, correlated_patterns, independent_patterns
from mmdjax.data.missing.patterns import check_rate, patterns
from mmdjax.data.missing.sample_random import OF_SAMPLE, Samples
from mmdjax.errors import UserError, choice


def observed_frames(
    name: str,
    valid: Mapping[str, np.ndarray],
    rate: float,
    seed: int,
    label: np.ndarray | None = None,
    rows: np.ndarray | None = None,
    **settings: Any,
) -> dict[str, np.ndarray]:
    """Draw masks; gaps run over the frames that exist, whatever padding is between.

    Args:
      name: of `GENERATORS`; `settings` are its own.
      valid: modality -> (N, T_m) bool, the frame exists.
      rate: share that is missing.
      label: (N,), read by `label_dependent`.
      rows: (N,) numbers of the samples; 0 to N - 1 by default.

    Returns:
      modality -> (N, T_m) bool, the frame exists and is observed; some frame of every sample is.

    Raises:
      UserError: an unknown generator or setting, a rate that it cannot realise, a sample without
        frames, arrays that do not fit together.
    """
    choice("gaps", name, tuple(GENERATORS))
    known = tuple(inspect.signature(GENERATORS[name]).parameters)[2:]
    for key in settings:
        choice(f"setting of gaps {name!r}", key, known or ("none",))
    size = len(next(iter(valid.values())))
    rows = np.arange(size) if rows is None else np.asarray(rows)
    columns = {f"valid[{m!r}]": v for m, v in valid.items()} | {"rows": rows, "label": label}
    for column, values in columns.items():
        if values is not None and len(values) != size:
            raise UserError(f"{column} has {len(values)} samples; allowed: {size}, as the first")
    if not 0 <= seed < 2**64 or (rows < 0).any():
        raise UserError(f"seed {seed} or a row is negative; allowed: integers from 0")
    lengths = {m: v.sum(1) for m, v in valid.items()}
    empty = np.flatnonzero(sum(lengths.values()) == 0)
    if empty.size:
        raise UserError(f"sample {rows[empty[0]]} has no frame; allowed: at least one")
    observed = GENERATORS[name](Samples(lengths, rows, int(seed), label), rate, **settings)
    for m, exists in valid.items():
        place = np.maximum(exists.cumsum(1) - 1, 0)
        within = np.take_along_axis(observed[m], place, 1) if observed[m].size else exists
        observed[m] = exists & within
    return observed


def mcar(samples: Samples, rate: float) -> dict[str, np.ndarray]:
    """Each frame is missing with probability `rate`, independently of everything.

    The expected rate of a sample of F frames is rate - rate^F / F. Masks of one seed are nested: a
    higher rate hides the same frames and more.
    """
    _check_below_one("mcar", rate)
    return _frames(samples, {m: u < rate for m, u in samples.uniforms().items()})


def burst(samples: Samples, rate: float, length: float = 5.0) -> dict[str, np.ndarray]:
    """Frames of a modality are missing in runs, of geometric length with mean `length` frames.

    A stationary Markov chain for each modality: a run ends with probability e = 1 / length, and
    starts with rate e / (1 - rate). Runs are cut at the ends of the utterance. The expected rate
    of a sample is lower by prod_m rate (1 - e)^(T_m - 1) / F, F = sum_m T_m.
    """
    if not length >= 1:
        raise UserError(f"length {length} of gaps 'burst'; allowed: at least 1 frame")
    # At most: a single observed frame between any two runs.
    if not 0 <= rate <= length / (length + 1):
        raise UserError(
            f"missing rate {rate} of gaps 'burst' with mean length {length}; allowed: 0 to "
            f"{length / (length + 1):.3f}, or longer bursts"
        )
    end = 1 / length
    start = rate * end / (1 - rate)
    missing = samples.uniforms()
    for m, u in missing.items():
        now = u[:, :1] < rate
        chain = [now]
        for t in range(1, u.shape[1]):
            now = u[:, t : t + 1] < np.where(now, 1 - end, start)
            chain.append(now)
        missing[m] = np.concatenate(chain, 1)
    return _frames(samples, missing)


def block(samples: Samples, rate: float) -> dict[str, np.ndarray]:
    """One run of round(rate T) frames of each modality is missing, at a uniform place.

    The rate of every sample is exact up to rounding (half to even). A sample of which these would
    be all F frames keeps one of them: its rate is 1 - 1 / F.
    """
    _check_below_one("block", rate)
    missing = {}
    for i, (m, length) in enumerate(samples.lengths.items()):
        size = np.rint(rate * length).astype(int)
        start = (samples.uniform(i + 1, 1)[:, 0] * (length - size + 1)).astype(int)
        place = np.arange(length.max(initial=0))
        missing[m] = (place >= start[:, None]) & (place < (start + size)[:, None])
    return _frames(samples, missing)


def correlated(
    samples: Samples, rate: float, rho: float = 0.5, groups: Sequence[Sequence[str]] = ()
) -> dict[str, np.ndarray]:
    """Whole modalities are missing, each with probability `rate`, those of a group together.

    For m, n of one group the indicators "m is missing" and "n is missing" have Pearson correlation
    `rho`; see `correlated_patterns` for the law.

    Args:
      groups: of modality names; one that is in no group fails by itself. Default: one group of all
        but the first.

    Raises:
      UserError: a rate that leaves no such law. For groups of one or two modalities no other law
        has these rates and correlations either.
    """
    names = tuple(samples.lengths)
    groups = groups or (names[1:],)
    group_of = {m: -1 - i for i, m in enumerate(names)}
    grouped = [(m, g) for g, group in enumerate(groups) for m in group]
    for m, g in grouped:
        choice("modality in groups of gaps 'correlated'", m, names)
        group_of[m] = g
    if len(dict(grouped)) != len(grouped):
        raise UserError(f"groups of gaps 'correlated' name a modality twice: {groups}")
    return _whole(samples, correlated_patterns(rate, rho, [*group_of.values()])[None])


def imbalanced(
    samples: Samples, rate: float, rates: Sequence[float] = (), spread: float = 0.5
) -> dict[str, np.ndarray]:
    """Whole modalities are missing, modality m with probability rates[m], otherwise independently.

    "Otherwise": given that one is kept. See `independent_patterns`.

    Args:
      rate: mean of `rates`.
      rates: in the order of the modalities. By default evenly spaced around `rate`, the first
        modality's the lowest.
      spread: of these, in [0, 1]; at 1 the furthest one is 0 or 1.
    """
    if len(rates) == 0:
        if not 0 <= spread <= 1:
            raise UserError(f"spread {spread} of gaps 'imbalanced'; allowed: 0 to 1")
        rate = check_rate(rate, len(samples.lengths))
        away = spread * min(rate, 1 - rate)
        rates = rate + away * np.linspace(-1, 1, len(samples.lengths))
    elif len(rates) != len(samples.lengths):
        raise UserError(
            f"gaps 'imbalanced' with {len(rates)} rates; allowed: {len(samples.lengths)}, one for "
            "each modality"
        )
    elif not abs(np.mean(rates) - rate) < 1e-3:
        raise UserError(
            f"rate {rate} of gaps 'imbalanced' with rates {tuple(rates)}; allowed: their mean, "
            f"{np.mean(rates):.3f}"
        )
    return _whole(samples, independent_patterns(np.asarray(rates, float))[None])


def label_dependent(
    samples: Samples,
    rate: float,
    strength: float = 1.0,
    by: str = "label",
    reference: Sequence[float] = tuple(np.linspace(-3, 3, 121)),
) -> dict[str, np.ndarray]:
    """Whole modalities are missing, at a rate that depends on the label (missing not at random).

    Every modality of a sample with label y has rate(y) = a / (1 + exp(-(b + strength y))), with
    a = (M - 1) / M, the most that can be missing, and otherwise fails independently
    (`independent_patterns`). b makes the mean of rate(y) over `reference` the asked rate: a law of
    labels that is given beforehand, so that no sample's mask depends on others. On data with other
    labels the realised rate differs.

    Args:
      by: 'label', or 'size' for |y| in place of y.
      reference: labels, each as likely, such as quantiles of the training split's; by default
        evenly spaced in [-3, 3].
    """
    choice("by of gaps 'label_dependent'", by, ("label", "size"))
    if samples.label is None or not np.isfinite(samples.label).all():
        raise UserError("gaps 'label_dependent' without finite labels; give one for each sample")
    modalities = len(samples.lengths)
    label, law = (np.asarray(y, float) for y in (samples.label, reference))
    if by == "size":
        label, law = np.abs(label), np.abs(law)
    if not (law.size and np.isfinite(law).all() and np.isfinite(strength)):
        raise UserError("reference or strength of gaps 'label_dependent' is not finite, or empty")
    most, rate = (modalities - 1) / modalities, check_rate(rate, modalities)
    bound = 40 + np.abs(strength) * np.abs(law).max()
    b = bisect(lambda b: most * expit(b + strength * law).mean() - rate, -bound, bound)
    rates = most * expit(b + strength * label) if rate else np.zeros(len(label))
    return _whole(samples, independent_patterns(np.repeat(rates[:, None], modalities, 1)))


def _frames(samples: Samples, missing: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the frames that are observed; a sample that would lose everything keeps one."""
    observed = {m: exists & ~missing[m] for m, exists in samples.frames().items()}
    lost = ~np.any([mask.any(1) for mask in observed.values()], 0)
    modality, place = samples.any_frame()
    for i, mask in enumerate(observed.values()):
        rows = np.flatnonzero(lost & (modality == i))
        mask[rows, place[rows]] = True
    return observed


def _whole(samples: Samples, law: np.ndarray) -> dict[str, np.ndarray]:
    """Return the observed frames of patterns with probabilities `law` (N or 1, P)."""
    u = samples.uniform(OF_SAMPLE, 1)
    pattern = (u > law.cumsum(-1)).sum(-1).clip(max=law.shape[-1] - 1)
    observed = patterns(len(samples.lengths))[pattern]
    lost = ~(observed & (np.stack([*samples.lengths.values()], 1) > 0)).any(1)
    observed[lost, samples.any_frame()[0][lost]] = True
    return {m: a & observed[:, i : i + 1] for i, (m, a) in enumerate(samples.frames().items())}


def _check_below_one(name: str, rate: float) -> None:
    if not 0 <= rate < 1:
        raise UserError(f"missing rate {rate} of gaps {name!r}; allowed: at least 0 and below 1")


GENERATORS: dict[str, Callable[..., dict[str, np.ndarray]]] = {
    "mcar": mcar,
    "burst": burst,
    "block": block,
    "correlated": correlated,
    "imbalanced": imbalanced,
    "label_dependent": label_dependent,
}
FRAMES = ("mcar", "burst", "block")  # those that drop frames of a modality
