"""The README stays short; its code and that of the page on diffusion run."""

import re
from pathlib import Path

import jax
import numpy as np
from scipy import stats

from mmdjax.serving.bundle import publish

ROOT = Path(__file__).parents[2]


def test_ten_lines_draw_two_moons_from_a_score_network():
    section = (ROOT / "docs" / "diffusion.md").read_text()
    draw, train = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[:2]
    assert len(draw.strip().splitlines()) <= 10
    space = {}
    exec(train.replace("5000", "1500"), space)  # fewer training steps: seconds
    exec(draw, space)
    x, data = np.asarray(space["x"]), np.asarray(space["data"])
    for direction in np.array([[1, 0], [0, 1], [1, 1], [1, -1]]):
        assert stats.energy_distance(x @ direction, data @ direction) < 0.08
    # On the moons, not between them: near some data point, as nearly all data is.
    gaps = np.sqrt(((x[:500, None] - data) ** 2).sum(-1)).min(1)
    assert np.mean(gaps < 0.15) > 0.7


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_readme_fills_in_and_predicts_in_ten_lines(tiny_trained, tmp_path, capsys):
    method, params, *_ = tiny_trained("two_stage")
    publish(method, params, 0, tmp_path / "model" / "seed_0", "data")
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(code.strip().splitlines()) <= 10
    capsys.readouterr()
    with jax.debug_nans(False):
        exec(code.replace("runs/synthetic", str(tmp_path)), {})
    assert capsys.readouterr().out.startswith("(8, 50, 10, 6)")
