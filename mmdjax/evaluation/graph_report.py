"""What the report of GSDNet holds beyond that of other methods: graphs, draws, published tables."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from mmdjax.config.systems import NO_COMPARISON
from mmdjax.data.missing.patterns import pattern_name
from mmdjax.evaluation import published, tables
from mmdjax.evaluation.comparison_tables import published_table
from mmdjax.evaluation.conversations import TEST_STREAM
from mmdjax.evaluation.graph_noise import noised, picture
from mmdjax.evaluation.metrics import energy_distance
from mmdjax.evaluation.pages import Block
from mmdjax.evaluation.report import HEADLINE
from mmdjax.graphs.conversation import BASES
from mmdjax.graphs.spectral import kept
from mmdjax.methods.graph.programs import compiled_graphs
from mmdjax.methods.graph.states import adjacencies
from mmdjax.methods.graph_system import GraphSystem, Trained, drawn_variants

PICTURED = 32  # conversations whose graphs are diffused for the picture
POINTS = 250  # utterances in a t-SNE picture
ITERATIONS = 1000
SOURCE = "gsdnet"


def sections(system: GraphSystem, rows, trained: Trained, seed: int):
    """What `report.write_report` takes as `extra`: (title, blocks) each, and name -> (figure,
    caption).

    Args:
      trained, seed: one of them, for pictures.
    """
    figures = {
        "graph_noise": (
            picture(_noise(system)),
            f"Graph of {system.modalities[0]} while it is diffused, one conversation; below, means "
            f"over {PICTURED} training conversations. Either state is diffused at unit variance: "
            "the matrix, or the eigenvalues' deviations from those of the known structure. Degrees "
            "by Wasserstein distance.",
        )
    }
    kept_of = ("table", "How much of a graph its spectrum keeps, by basis", *_kept_table(system))
    result = [("Graphs", [kept_of, _block(figures, "graph_noise")])]
    if drawn_variants(system.config):
        figures["embedding"] = (
            embedded(system, trained, seed),
            f"t-SNE of {POINTS} utterances: drawn beside true features, seed {seed}.",
        )
        result.append(("Drawn features", [_block(figures, "embedding")]))
    if dataset := system.config.graph.published:
        result.append((f"Published, CMU-{dataset}", _published(system, rows, dataset)))
    return result, figures


def _block(figures, name: str) -> Block:
    return "figure", name, figures[name][1]


def _noise(system: GraphSystem):
    train = system.of_split["train"][:PICTURED]
    graphs = jax.tree.map(lambda a: a[train], system.data.graphs)
    sde = next(iter(system.modules.values())).sde
    return noised(graphs, system.data.x[train], 0, sde)


def _kept_table(system: GraphSystem) -> tables.Table:
    """Shares of the squared Frobenius norm in each basis, means over the test conversations."""
    test = system.of_split["test"]
    graphs = jax.tree.map(lambda a: a[test], system.data.graphs)
    everything = jnp.broadcast_to(graphs.valid[..., None], system.data.x[test].shape[:3])
    own = jax.jit(adjacencies)(graphs, system.data.x[test], everything)
    places = (system.data.position[test], system.data.speaker[test], graphs.valid)
    columns = []
    for name in BASES:
        edges = tuple(system.config.graph.edges().items())
        columns.append(np.asarray(_shares(own, compiled_graphs(name, edges)(*places).basis)))
    body = [
        [modality, *(f"{100 * column[:, m].mean():.1f}" for column in columns)]
        for m, modality in enumerate(system.modalities)
    ]
    return ["modality", *(f"{name} (%)" for name in BASES)], body


_shares = jax.jit(jax.vmap(jax.vmap(kept, (0, None))))


def _published(system: GraphSystem, rows, dataset: str) -> list[Block]:
    """Tables 1 to 3 as printed, and ours under their conditions."""
    letters = [pattern_name(row, system.modalities) for row in np.eye(len(system.modalities)) > 0]
    theirs = dict(zip(letters, ("l", "a", "v"), strict=True))
    note = (
        f"The papers' features are others, so their numbers are no yardstick for ours; "
        f"{', '.join(f'{ours} stands for their {his}' for ours, his in theirs.items())}."
    )
    blocks: list[Block] = [("list", [note])]
    for number, protocol in (("1", "fixed"), ("2", "random")):
        header, body = tables.condition_table(rows, protocol, HEADLINE, system.modalities)
        printed = published.results(f"{SOURCE} {number}", dataset)
        columns = [_printed_name(head, theirs) for head in header[1:]]
        for method in dict.fromkeys(r["method"] for r in printed):
            own = {_order(r["condition"]): r for r in printed if r["method"] == method}
            cells = [
                f"{100 * own[c][HEADLINE]:.1f}" if c in own else tables.MISSING for c in columns
            ]
            body.append([f"{method}, published", *cells])
        title = f"{tables.metric_label(HEADLINE)}: ours, and table {number} of GSDNet"
        blocks.append(("table", title, header, body))
    comparison = dataclasses.replace(NO_COMPARISON, dataset=dataset)
    for number in ("1", "2", "3"):
        title = f"Table {number} of GSDNet as printed: ACC2 / F1 / ACC7 (%)"
        blocks.append(("table", title, *published_table(comparison, f"{SOURCE} {number}")))
    return blocks


def _printed_name(head: str, theirs: dict[str, str]) -> str:
    """'l+t' -> 'a+l' in a fixed order; '0.7 (realised 0.667)' -> '0.7'."""
    condition = head.split(" ")[0]
    return _order("+".join(theirs.get(part, part) for part in condition.split("+")))


def _order(condition: str) -> str:
    return "+".join(sorted(condition.split("+")))


def embedded(system: GraphSystem, trained: Trained, seed: int) -> Figure:
    """t-SNE of drawn and true components (the paper's Figure 3), for each pattern of one observed
    modality."""
    from mmdjax.evaluation.embedding import (
        DRAWN,
        OBSERVED,
        STRIDE,
        TRUE,
        Panel,
        embed,
        pictures,
        two_sample_accuracy,
    )

    key, name = jax.random.fold_in(jax.random.key(seed), TEST_STREAM), system.constant
    test, panels = system.of_split["test"], []
    true = system.flat("test", np.asarray(system.data.x)[test])[:POINTS]
    singles = system.patterns[: len(system.modalities)]
    with system.reporter.phase("t-SNE pictures", len(singles) * (ITERATIONS // STRIDE)) as progress:
        for pattern in singles:
            mask = np.tile(pattern, (len(system.batches["test"]), 1))
            about = (system.placed("test", mask), 1, key, "draws for pictures")
            sets, _ = system.draw_sets(name, trained.score[name], test, *about)
            x, groups, numbers = system.flat("test", sets.x)[:POINTS], {}, {}
            for m, modality in enumerate(system.modalities):
                if pattern[m]:
                    groups[modality, OBSERVED] = true[:, m]
                    continue
                pair = (x[:, m], true[:, m])
                groups[modality, DRAWN], groups[modality, TRUE] = pair
                accuracy = two_sample_accuracy(*pair, paired=True)
                numbers[modality] = (energy_distance(*pair), accuracy)
            points = embed(groups, 8, ITERATIONS, seed, progress.advance)
            column = pattern_name(pattern, system.modalities)
            panels.append(Panel(name, column, f"observed: {column}", points, numbers))
    return pictures(panels, system.modalities)
