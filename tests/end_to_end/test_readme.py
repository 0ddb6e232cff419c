"""The README's own code runs, and draws what it says."""

import re
from pathlib import Path

import numpy as np
from scipy import stats

README = Path(__file__).parents[2] / "README.md"


def test_ten_lines_draw_two_moons_from_a_score_network():
    section = README.read_text().partition("## Diffusion on its own")[2]
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
