"""Training GSDNet's variants and their constant-fill rival for one seed.

The paper trains everything at once (eq. 18, 20), which would differentiate through the sampler or
feed untrained samples to the classifier. Here the score networks come first (L_s of eq. 11), then
what is missing is drawn, and D_X, D_Lambda and the GCN are trained on the draws with L_pred +
beta L_rec (eq. 17, 20).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.data.missing.patterns import random_mask
from mmdjax.methods.graph.diffusion import shown
from mmdjax.methods.graph.losses import completion_loss, prediction_error, score_loss, training_mask
from mmdjax.methods.graph.programs import Sets
from mmdjax.methods.graph_system import GraphSystem, Trained, drawn_variants, fills_of
from mmdjax.methods.gsdnet import VARIANTS
from mmdjax.methods.latent.initial import initial
from mmdjax.runtime.compilation import AheadOfTime, shapes_of
from mmdjax.training.checkpoints import PhaseStore
from mmdjax.training.loop import Phase, fit
from mmdjax.training.step import Source, make_trainer, prepare_step, steps_per_epoch

# Which part of a seed's randomness each phase owns.
STREAMS = ("classifier", "mean", *VARIANTS, *(f"score_{name}" for name in VARIANTS))
VALIDATION_REPEATS = 4
VALIDATION_RATES = (0.3, 0.5, 0.7)


def _keys(seed: int, name: str):
    """(2,) keys of a phase: of its initialisation and of its training."""
    key = jax.random.fold_in(jax.random.key(seed), 50 + STREAMS.index(name))
    return jax.random.split(key, 2)


class GraphStages:
    """The compiled training steps of a system; `train` runs them for a seed."""

    def __init__(self, system: GraphSystem):
        self.system, config = system, system.config

        def trainer(loss, settings, bucket):
            steps = steps_per_epoch(bucket, settings.batch) * settings.epochs
            return make_trainer(loss, settings, steps, config.mesh)

        first = system.predictors[system.constant]
        head = (config.data.classes, config.graph.beta)
        bucket = system.bucket[system.of_split["train"]]
        sets = np.tile(bucket, config.rounds)
        self._trainers = {
            "classifier": trainer(
                completion_loss(first, "complete", *head), config.classifier_training, bucket
            )
        }
        for fill in fills_of(config):
            predictor, drawn = system.predictors.get(fill, first), fill in VARIANTS
            loss = completion_loss(predictor, fill, *head)
            self._trainers[fill] = trainer(loss, config.stage2_training, sets if drawn else bucket)
        self._score_valid = {}
        for name in drawn_variants(config):
            loss = score_loss(system.modules[name], config.diffusion.weighting)
            self._trainers[f"score_{name}"] = trainer(loss, config.score_training, bucket)
            self._score_valid[name] = AheadOfTime(loss, static_argnames="frames")

    def prepare(self) -> None:
        """Starts compiling what draws, while the classifier is trained, in the order of its use."""
        system, config = self.system, self.system.config
        seed, lengths = config.seeds[0], [system.buckets[i] for i in np.unique(system.bucket)]
        variants = drawn_variants(config)
        random_key = jax.eval_shape(lambda: jax.random.key(0))
        shapes = lambda function, name: jax.eval_shape(lambda: function(seed, name))  # noqa: E731
        params = {name: shapes(self._initial_score, name) for name in variants}
        for name in variants:
            source, step = self._rows(name), self._trainers[f"score_{name}"]
            for length in lengths:
                prepare_step(step, params[name], source, config.score_training, length)
            for rows, length in self._validation_rows():
                data = shapes_of(source.common) | {"row": rows}
                about = (params[name], data, np.ones(rows.size, np.float32), random_key)
                self._score_valid[name].prepare(*about, frames=length)
        for name in variants:
            system.prepare_draw(name, params[name])
            size, step = config.rounds * len(system.of_split["train"]), self._trainers[name]
            sets = {"sets": system.shapes_of_sets(name, size)}
            source, own = Source(sets, self._common(name)), shapes(self._initial, name)
            for length in lengths:
                prepare_step(step, own, source, config.stage2_training, length)

    def train(self, seed: int, place: Callable[[str], Path], may_train: bool = True) -> Trained:
        """All phases of a seed, resumed where they stopped.

        Args:
          place: phase -> its folder.

        Raises:
          UserError: a loss is not finite, or a phase is unfinished and may not be trained.
        """
        system, config, score, stage2, history = self.system, self.system.config, {}, {}, {}
        run = functools.partial(self._fit, seed, place, may_train)
        title = "classifier on complete data"
        load = functools.partial(self._constant_data, "complete")
        settings = config.classifier_training
        complete = run("classifier", title, self._initial(seed, "classifier"), load, settings)
        history[title] = complete.history
        for name in drawn_variants(config):
            title = f"score networks, {name}"
            load = functools.partial(self._score_data, name)
            init = self._initial_score(seed, name)
            fitted = run(f"score_{name}", title, init, load, config.score_training)
            score[name], history[title] = fitted.params, fitted.history
        for fill in fills_of(config):
            title, drawn = f"stage 2, {fill}", fill in VARIANTS
            load = functools.partial(self._constant_data, fill)
            if drawn:
                load = functools.partial(self._drawn_data, seed, fill, score[fill])
            init = complete.params | (self._initial(seed, fill) if drawn else {})
            init |= {"gcn": complete.params["gcn"]}
            fitted = run(fill, title, init, load, config.stage2_training)
            stage2[fill], history[title] = fitted.params, fitted.history
        system.reporter.print(f"seed {seed}: trained")
        return Trained(score, complete.params, stage2, history)

    def _fit(self, seed, place, may_train, name, title, init, load, settings):
        """One phase, resumed from its own store in `place(name)`."""
        system = self.system
        bucket = system.bucket[system.of_split["train"]]
        if name in VARIANTS:
            bucket = np.tile(bucket, system.config.rounds)
        key, order = _keys(seed, name)[1], (seed, STREAMS.index(name))
        return fit(
            Phase(f"seed {seed}: {title}", bucket, system.buckets, key, order),
            self._trainers[name],
            init,
            load,
            settings,
            PhaseStore(place(name), system.config.save_seconds, system.config.keep_last),
            system.reporter,
            may_train,
        )

    def _initial(self, seed: int, name: str) -> dict:
        """{'gcn'}, and for a variant {'features', 'graph'}."""
        system, keys = self.system, jax.random.split(_keys(seed, name)[0], 3)
        predictor = system.predictors.get(name, system.predictors[system.constant])
        one, known, tokens = self._zeros(predictor.state)
        batch, n, modalities = known.observed.shape
        adjacency = np.zeros((batch, modalities, n, n), np.float32)
        about = (one.features, adjacency, one.position, one.graphs.valid)
        params = {"gcn": initial(predictor.gcn)(keys[0], *about)}
        if name not in VARIANTS:
            return params
        flat, seen = one.x.reshape(batch, n, -1), known.observed.astype(np.float32)
        drawn = known.partial.reshape(*tokens.shape[:-1], -1)
        params["features"] = initial(predictor.features)(keys[1], flat, seen)
        return params | {"graph": initial(predictor.graph)(keys[2], drawn, tokens)}

    def _initial_score(self, seed: int, name: str) -> dict:
        system, keys = self.system, jax.random.split(_keys(seed, f"score_{name}")[0])
        modules = system.modules[name]
        one, known, tokens = self._zeros(modules.state)
        batch, n, modalities = known.observed.shape
        t, graphs = np.ones(1, np.float32), one.graphs
        inputs = np.zeros((batch, n, 2 * one.x[0, 0].size + modalities), np.float32)
        edges = np.zeros((batch, modalities, n, n), np.float32)
        about = (inputs, t, graphs.valid, graphs.weights, edges if modules.graph else None)
        params = {"features": initial(modules.features)(keys[0], *about)}
        if modules.graph is None:
            return params
        seen = modules.state.seen(graphs)
        return params | {"graph": initial(modules.graph)(keys[1], tokens, t, seen)}

    def _zeros(self, state):
        """One conversation, what is shown of it, and tokens of its graphs: 0, for their shapes."""

        def of(data):
            one = data.at(np.zeros(1, np.int32), self.system.buckets[0])
            observed = jnp.ones(one.x.shape[:3], bool)
            known = shown(state, one.graphs, one.x, observed, 1.0)
            tokens = state.tokens(one.graphs, known.partial, known.partial, observed)
            return one, known, tokens

        shapes = jax.eval_shape(of, self.system.data)
        return jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)

    def _rows(self, variant: str) -> Source:
        """Training conversations, by their place in all."""
        return Source({"row": self.system.of_split["train"]}, self._common(variant))

    def _common(self, variant: str) -> dict:
        """What the losses read of all conversations."""
        system = self.system
        return {
            "all": system.data,
            "scale": system.scale[variant],
            "back": system.back,
            "utterances": np.float32((system.places["train"] >= 0).sum(1).mean()),
        }

    def _score_data(self, name: str):
        """Training data, and the score loss on fixed masks, times and noise."""
        system, source = self.system, self._rows(name)
        groups = self._validation_rows()

        def validate(params) -> float:
            total = 0.0
            for repeat in range(VALIDATION_REPEATS):
                for index, (rows, count) in enumerate(groups):
                    key = jax.random.fold_in(jax.random.key(repeat), index)
                    data = source.common | {"row": rows}
                    arguments = (data, np.ones(rows.size, np.float32), key)
                    loss = self._score_valid[name](params, *arguments, frames=count)
                    total += float(loss) * rows.size
            return total / (VALIDATION_REPEATS * len(system.of_split["valid"]))

        return source, validate

    def _validation_rows(self) -> list[tuple[np.ndarray, int]]:
        """Validation conversations of each length bucket that has some, and its length."""
        system, valid = self.system, self.system.of_split["valid"]
        bucket = system.bucket[valid]
        return [(valid[bucket == i], system.buckets[i]) for i in np.unique(bucket)]

    def _constant_data(self, fill: str):
        system, name = self.system, self.system.constant
        sets = system.constant_sets(*validation_masks(system, complete=fill == "complete"))
        return self._rows(name), functools.partial(self._error, name, sets)

    def _drawn_data(self, seed: int, name: str, score):
        """Sets drawn for training, `rounds` of each conversation, and for validation."""
        system, rounds = self.system, self.system.config.rounds
        key_mask, key = jax.random.split(_keys(seed, name)[1])
        train, (count, modalities) = system.of_split["train"], system.data.x.shape[1:3]
        shape = (len(train), count, modalities)
        mask = AheadOfTime.run_once(lambda key: training_mask(key, *shape))
        parts = []
        # Draws of one conversation differ by their number, so each round has a key of its own.
        for i in range(rounds):
            observed = mask(jax.random.fold_in(key_mask, i))
            title = f"seed {seed}: draws of {name} for training, {i + 1} of {rounds}"
            about = (train, np.asarray(observed), 1, jax.random.fold_in(key, i), title)
            parts.append(system.draw_sets(name, score, *about)[0])
        sets = Sets(*map(np.concatenate, zip(*parts, strict=True)))
        title = f"seed {seed}: draws of {name} for validation"
        about = (*validation_masks(system), 1, jax.random.fold_in(key, rounds), title)
        held, _ = system.draw_sets(name, score, *about)
        source = Source({"sets": sets}, self._common(name))
        return source, functools.partial(self._error, name, held)

    def _error(self, name: str, sets: Sets, params) -> float:
        """Mean prediction error over the utterances of sets."""
        system = self.system
        made, data = system.complete(name, params, sets), system.data
        label = np.asarray(data.label)[sets.conversation]
        valid = np.asarray(data.graphs.valid)[sets.conversation]
        classes = system.config.data.classes
        error = prediction_error(made.prediction[valid], label[valid], classes)
        return float(np.asarray(error).mean())


def validation_masks(system: GraphSystem, complete: bool = False):
    """(Q,) conversations and (Q, N, M): every pattern and some rates, or nothing missing."""
    modalities, places = len(system.modalities), system.places["valid"]
    shape = (*places.shape, modalities)
    chosen = system.patterns[-1:] if complete else system.patterns
    masks = [np.broadcast_to(pattern, shape) for pattern in chosen]
    for rate in () if complete else VALIDATION_RATES:
        rate = min(rate, (modalities - 1) / modalities)
        entries = random_mask(int((places >= 0).sum()), modalities, rate, 0)
        masks.append(system.placed("valid", entries))
    return np.tile(system.of_split["valid"], len(masks)), np.concatenate(masks)
