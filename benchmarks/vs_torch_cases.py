"""What `vs_torch.py` and `vs_imder.py` time: networks, recipes, and the sides that run them."""

from __future__ import annotations

from benchmarks.sides import ALL, MALLOC, ONE, TORCH
from mmdjax.methods.recipes import RECIPES

JOINT = {"width": 256, "layers": 6, "heads": 8, "mlp": 512, "time_features": 256}
JOINT |= {"fourier_scale": 16.0, "attention": "joint", "patch": 1}
PREFIX, PATCH = JOINT | {"attention": "prefix"}, JOINT | {"attention": "prefix", "patch": 4}
SMOKE = {"width": 32, "layers": 2, "heads": 2, "mlp": 64, "time_features": 16}


def case(group, side, form, score, recipe, batch=32, dtype="float32", **changes) -> dict:
    """recipe: a name of `RECIPES`, or sampler and NFE as in 'ddim 10' on the quadratic grid."""
    if recipe in RECIPES:
        settings = {"grid_options": ()} | RECIPES[recipe]
    else:
        sampler, nfe = recipe.split()
        settings = {"sampler": sampler, "nfe": int(nfe), "grid": "quadratic", "grid_options": ()}
    network = "joint" if score["attention"] == "joint" else "prefix"
    network += f", patch {score['patch']}" if score["patch"] > 1 else ""
    about = {"group": group, "side": side, "form": form, "recipe": recipe, "network": network}
    return about | {"score": score, "batch": batch, "dtype": dtype} | settings | changes


def cases() -> list[dict]:
    torch, raised, bf16 = TORCH, MALLOC, {"dtype": "bfloat16"}
    same = "Same work: DDIM 30, float32, batch 32"
    listed = [
        case(same, torch, "eager", JOINT, "ddim 30"),
        case(same, raised, "eager", JOINT, "ddim 30"),
        case(same, torch, "compile", JOINT, "ddim 30"),
        case(same, torch, "diffusers", JOINT, "ddim 30"),
        case(same, ONE, "naive", JOINT, "ddim 30"),
        case(same, ONE, "mmdjax", JOINT, "ddim 30"),
        case(same, ALL, "mmdjax", JOINT, "ddim 30"),
    ]
    half = "Same work: DDIM 30, bfloat16 operands, batch 32"
    listed += [
        case(half, torch, "eager", JOINT, "ddim 30", **bf16),
        case(half, raised, "eager", JOINT, "ddim 30", **bf16),
        case(half, torch, "compile", JOINT, "ddim 30", **bf16),
        case(half, ONE, "mmdjax", JOINT, "ddim 30", **bf16),
        case(half, ALL, "mmdjax", JOINT, "ddim 30", **bf16),
    ]
    single = "Same work: DDIM 30, float32, batch 1"
    for side, form in ((torch, "eager"), (torch, "compile"), (ONE, "mmdjax"), (ALL, "mmdjax")):
        listed.append(case(single, side, form, JOINT, "ddim 30", batch=1))
    cache = "Prefix cache: DDIM 10, float32, batch 32, encoding included"
    for score in (JOINT, PREFIX, PATCH):
        listed.append(case(cache, ALL, "mmdjax", score, "ddim 10"))
    listed += [case(cache, torch, "eager", score, "ddim 10") for score in (JOINT, PREFIX)]
    whole = "Recipes against the published sampler, batch 32"
    listed += [
        case(whole, torch, "eager", JOINT, "imder"),
        case(whole, ALL, "mmdjax", JOINT, "imder"),
        case(whole, ALL, "mmdjax", JOINT, "thesis-quality"),
        case(whole, ALL, "mmdjax", JOINT, "thesis-speed"),
        case(whole, ALL, "mmdjax", JOINT, "fast-8"),
        case(whole, torch, "diffusers", JOINT, "dpmpp_2m 8"),
        case(whole, torch, "diffusers", PREFIX, "dpmpp_2m 8"),
    ]
    for recipe in ("quality-16", "fast-8", "fast-4"):
        listed.append(case(whole, ALL, "mmdjax", PREFIX, recipe))
    listed += [
        case(whole, ONE, "mmdjax", PREFIX, "fast-8"),
        case(whole, ALL, "mmdjax", PREFIX, "fast-8", **bf16),
        case(whole, ALL, "mmdjax", PATCH, "fast-8"),
        case(whole, ALL, "mmdjax", PATCH, "fast-8", **bf16),
    ]
    scaling = "Latency against evaluations: prefix, dpmpp_2m, batch 32"
    listed += [
        case(scaling, ALL, "mmdjax", PREFIX, f"dpmpp_2m {nfe}") for nfe in (1, 2, 4, 8, 16, 32, 64)
    ]
    return listed


def on_gpu(listed: list[dict]) -> list[dict]:
    """Return the cases for a GPU: malloc and the number of a CPU's devices play no part there, and
    float32 products come in two precisions, of which TF32 is a group of its own."""
    kept = {}
    for c in listed:
        c = c | {"side": {MALLOC: TORCH, ALL: ONE}.get(c["side"], c["side"])}
        kept.setdefault(repr(c), c)
    made = list(kept.values())
    for group in dict.fromkeys(c["group"] for c in made if c["group"].startswith("Same work")):
        if "float32" in group:
            name = group.replace("float32", "TF32")
            same = [c for c in made if c["group"] == group]
            made += [c | {"group": name, "dtype": "tf32"} for c in same]
    return made
