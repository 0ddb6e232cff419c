"""Recipes are what they say: optimised where they claim it, and better than the baseline."""

import dataclasses
import inspect

import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.diffusion import VP, time_grid
from mmdjax.diffusion.exact import discretisation_error, relative_error
from mmdjax.diffusion.samplers.registry import steps_for
from mmdjax.diffusion.time_grids import optimised
from mmdjax.errors import UserError
from mmdjax.methods.recipes import RECIPES

LAW = ((0.6, -0.4, 0.9, -0.98), (0.64, 0.84, 0.19, 0.04))  # mean, variance; E x^2 = 1


def diffusion(recipe):
    return configs.from_dict({"diffusion": {"recipe": recipe}}).diffusion


def grid_of(d):
    return time_grid(d.grid, VP(), steps_for(d.sampler, d.nfe), **d.grid_arguments())


@pytest.mark.parametrize("recipe", [name for name, r in RECIPES.items() if "grid_options" in r])
def test_written_warps_are_what_the_search_finds(recipe):
    d, grid = diffusion(recipe), inspect.signature(optimised).parameters
    law = (grid["mean"].default, grid["variance"].default)
    written = discretisation_error(d.sampler, VP(), grid_of(d), *law)
    plain = discretisation_error(d.sampler, VP(), time_grid("log_snr", VP(), d.nfe), *law)
    searched = time_grid("optimised", VP(), d.nfe, method=d.sampler)
    found = discretisation_error(d.sampler, VP(), searched, *law)
    assert written < 1.1 * found + 1e-6 and written < 0.6 * plain


def test_more_evaluations_are_better_and_eight_beat_a_hundred_of_the_baseline():
    error = {
        name: relative_error(d.sampler, VP(), grid_of(d), *LAW)
        for name, d in ((name, diffusion(name)) for name in RECIPES)
    }
    assert error["quality-16"] <= error["fast-8"] < error["fast-4"]
    assert error["fast-8"] < error["imder"]


def test_a_recipe_and_other_fields_must_agree():
    with pytest.raises(UserError, match=r"nfe = 12 while recipe 'fast-8' says 8"):
        configs.from_dict({"diffusion": {"recipe": "fast-8", "nfe": 12}})
    with pytest.raises(UserError, match="recipe 'fast-9' is unknown"):
        configs.from_dict({"diffusion": {"recipe": "fast-9"}})
    config = configs.from_dict({"diffusion": {"recipe": "fast-4"}})
    assert configs.from_dict(configs.to_dict(config)) == config
    assert np.isclose(dataclasses.asdict(config)["diffusion"]["nfe"], 4)
