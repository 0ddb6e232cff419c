"""Every function and method of the package has type hints: each argument, and the return."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "mmdjax"
MODULES = ""  # the modules that stand in no subpackage
PACKAGES = [MODULES, *sorted(p.parent.name for p in ROOT.glob("*/__init__.py"))]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(body: Iterable[ast.stmt], owner: str = "") -> Iterator[tuple[str, Function]]:
    """Yield the name and the node of module-level functions and of methods, not of nested ones."""
    for node in body:
        if isinstance(node, Function):
            yield owner + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from functions(node.body, f"{owner}{node.name}.")
        else:  # both sides of an `if`, a `try`, a `with`
            blocks = (getattr(node, name, []) for name in ("body", "orelse", "finalbody"))
            handlers = (handler.body for handler in getattr(node, "handlers", []))
            for block in (*blocks, *handlers):
                yield from functions(block, owner)


def without_type(node: Function, method: bool) -> list[str]:
    """Return the arguments without a type, and '->' where the return has none."""
    arguments = [*node.args.posonlyargs, *node.args.args]
    static = any(getattr(d, "id", "") == "staticmethod" for d in node.decorator_list)
    if method and not static:  # self or cls
        arguments = arguments[1:]
    arguments += [*node.args.kwonlyargs, *filter(None, (node.args.vararg, node.args.kwarg))]
    missing = [argument.arg for argument in arguments if argument.annotation is None]
    return missing + (["->"] if node.returns is None else [])


def untyped(source: str) -> list[str]:
    """Return 'line function: what lacks a type' of a module's functions."""
    found = []
    for name, node in functions(ast.parse(source).body):
        if missing := without_type(node, method="." in name):
            found.append(f"{node.lineno} {name}: {', '.join(missing)}")
    return found


@pytest.mark.parametrize("package", PACKAGES, ids=lambda name: name or "mmdjax")
def test_every_argument_and_return_has_a_type(package):
    paths = sorted((ROOT / package).rglob("*.py") if package else ROOT.glob("*.py"))
    assert paths
    found = [f"{p.relative_to(ROOT)}:{line}" for p in paths for line in untyped(p.read_text())]
    assert not found, "without a type:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("def f(a, *, b: int = 0) -> int: ...", ["1 f: a"]),
        ("def f(*a, **b): ...", ["1 f: a, b, ->"]),
        ("async def f(a: int): ...", ["1 f: ->"]),
        ("class A:\n  def f(self, a) -> None: ...", ["2 A.f: a"]),
        ("class A:\n  class B:\n    def f(self): ...", ["3 A.B.f: ->"]),
        ("class A:\n  @staticmethod\n  def f(a) -> int: ...", ["3 A.f: a"]),
        ("try:\n  pass\nexcept ImportError:\n  def f(a) -> None: ...", ["4 f: a"]),
        ("class A:\n  @classmethod\n  def f(cls, a: int) -> int: ...", []),
        ("def f(a: int) -> int:\n  def g(b): ...\n  return lambda c: c", []),
    ],
)
def test_a_function_without_a_type_is_found(source, missing):
    assert untyped(source) == missing
