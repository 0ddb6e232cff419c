"""The order of layers: a module imports only from its own layer and from those below."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "mmdjax"
# From the bottom to the top; modules of one entry may import each other.
LAYERS = (
    ("errors", "types", "metrics", "__init__"),
    ("runtime",),
    ("tasks", "diffusion", "networks", "graphs"),
    ("data",),
    ("training",),
    ("methods",),
    ("config",),
    ("workdir",),
    ("evaluation",),
    ("serving",),
    ("run",),
    ("shipped",),
    ("main",),
)
READ = ("beside.py",)  # names of papers, as the published tables have them
MODULES = sorted(ROOT.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(module: str) -> int:
    top = module.split(".")[1] if "." in module else "__init__"
    return next(i for i, names in enumerate(LAYERS) if top in names)


def imported(path: Path, everywhere: bool) -> set[str]:
    """Modules of the package that a file imports; only at its top level unless `everywhere`."""
    tree = ast.parse(path.read_text())
    found = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mmdjax":
            for alias in node.names:
                inner = ROOT.parent.joinpath(*node.module.split("."), alias.name)
                is_module = inner.with_suffix(".py").exists() or inner.is_dir()
                found.add(f"{node.module}.{alias.name}" if is_module else node.module)
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] == "mmdjax"}
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_from_its_own_layer_and_below(path):
    module = name_of(path)
    for other in imported(path, everywhere=True):
        assert layer(other) <= layer(module), f"{module} imports {other}"


def test_no_modules_import_each_other():
    graph = {name_of(path): imported(path, everywhere=False) for path in MODULES}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above[above.index(module) :], module))
        if module not in done:
            for other in sorted(graph.get(module, ())):
                visit(other, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_no_method_is_named_outside_its_own_folder():
    names = ("two_stage", "imder", "gsdnet")
    for path in MODULES:
        if "methods" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            named = isinstance(node, ast.Constant) and node.value in names
            assert not named or path.name in READ, f"{path}:{node.lineno}: {node.value!r}"


def test_a_served_model_imports_nothing_that_only_training_needs():
    heavy = "sklearn", "matplotlib", "orbax", "tensorflow_datasets", "h5py", "openTSNE"
    program = "import sys, mmdjax.serving.imputer; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    output = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in output.stdout.split()}
    assert "jax" in loaded and not loaded & set(heavy)
