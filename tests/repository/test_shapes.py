"""Every public function of arrays says their shapes in its docstring."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for wing in ("r2d2", "evaluation") for path in (ROOT / wing).rglob("*.py"))
LIBRARIES = {"Tensor", "ndarray", "NDArray"}
# A size is a number, a name in capitals, one of a few words, or made of them: 2, H, B * Q, 2N, `N or more`.
WORDS = "bins|crop_size|draws|h|metrics|n|pairs|replicates|seeds|sequences|side|tries|w"
ATOM = rf"(?:\d*[A-Z]\w*'?|\d+|(?:{WORDS})\b)"
SIZE = rf"(?:\.\.\.|{ATOM}(?: ?[*+/-] ?{ATOM})*(?: or (?:more|{ATOM}))?)"
SHAPE = re.compile(rf"\({SIZE}(?:, ?{SIZE})+\)|\({SIZE},\)|\bscalars?\b|\b(?:same|any) shape\b")


def aliases(tree: ast.Module) -> set[str]:
    """The names that a module itself gives to arrays, e.g. `Floats = npt.NDArray[np.float64]`."""
    names = set(LIBRARIES)
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            value = ast.unparse(node.value)
            if "[" in value and not re.search(r"[({]", value) and mentioned(value, names):
                names.add(node.targets[0].id)
    return names - LIBRARIES


def array_names(tree: ast.Module, defined: dict[str, set[str]]) -> set[str]:
    """The names that stand for arrays in a module: the libraries', its own, and those that it imports."""
    imported = {
        alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name in defined.get(node.module or "", set())
    }
    return LIBRARIES | aliases(tree) | imported


def mentioned(annotation: str, names: set[str]) -> bool:
    """Whether an annotation holds one of the names; what a callable takes is its own affair."""
    plain = re.sub(r"Callable\[.*\]", "", annotation)
    return not names.isdisjoint(re.findall(r"\w+", plain))


def overloaded(node: ast.FunctionDef) -> bool:
    """Whether a definition is a form of a function that is written out elsewhere."""
    return any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list)


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef, str]]:
    """The public functions and methods of a module with their docstrings; an __init__ has its class's too."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not overloaded(node):
            yield node.name, node, ast.get_docstring(node) or ""
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and not re.match(r"_(?!_)", inner.name):
                    text = ast.get_docstring(inner) or ""
                    if inner.name == "__init__":
                        text = f"{ast.get_docstring(node) or ''} {text}"
                    yield f"{node.name}.{inner.name}", inner, text


def missing(function: ast.FunctionDef, text: str, names: set[str]) -> list[str] | None:
    """The arguments, and `result`, whose shapes a docstring does not say; None without an array.

    A shape stands behind the argument's name, in the same sentence. The only array need not be named. The
    result has a shape that is no argument's.
    """
    given = function.args
    everything = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, [given.vararg])]
    taken = [a.arg for a in everything if a.annotation and mentioned(ast.unparse(a.annotation), names)]
    returned = function.returns is not None and mentioned(ast.unparse(function.returns), names)
    if not taken and not returned:
        return None
    text = re.sub(r"\s+", " ", text)
    shapes = [match.start() for match in SHAPE.finditer(text)]
    lacking, claimed = [], set()
    for name in taken:
        behind = re.search(rf"\b{name}\b(?:(?!\. )(?!; ).)*?(?:{SHAPE.pattern})", text)
        if behind:
            claimed.add(max(start for start in shapes if start < behind.end()))
        elif len(taken) == 1 and shapes:
            claimed.add(shapes[0])
        else:
            lacking.append(name)
    if returned and len(set(shapes) - claimed) == 0:
        lacking.append("result")
    return lacking


@pytest.mark.parametrize(
    ("code", "lacking"),
    [
        ('def f(x: Tensor) -> Tensor:\n """Halve it."""', ["x", "result"]),
        ('def f(x: Tensor) -> Tensor:\n """Halve x (B, 3, H, W)."""', ["result"]),
        ('def f(x: Tensor) -> Tensor:\n """Sum (B, H / 8, 2 or more) to (B,)."""', []),
        ('def f(x: Tensor, y: Tensor) -> None:\n """Add x, y: (B,)."""', []),
        ('def f(x: Tensor, y: Tensor) -> None:\n """Add x. It is y: (B,)."""', ["x"]),
        ('def f(x: list[Points]) -> int:\n """Count (see above, or below)."""', ["x"]),
        ("def f(x: int, call: Callable[[Tensor], int]) -> int: ...", None),
    ],
)
def test_what_lacks_is_found(code, lacking):
    function = ast.parse(code).body[0]
    assert isinstance(function, ast.FunctionDef)
    assert missing(function, ast.get_docstring(function) or "", {"Tensor", "Points"}) == lacking


def test_every_public_function_of_arrays_says_their_shapes():
    trees = {path.relative_to(ROOT): ast.parse(path.read_text()) for path in FILES}
    defined = {".".join(path.with_suffix("").parts): aliases(tree) for path, tree in trees.items()}
    seen, lacking = 0, []
    for path, tree in trees.items():
        names = array_names(tree, defined)
        for name, function, text in functions(tree):
            what = missing(function, text, names)
            seen += what is not None
            if what:
                lacking.append(f"{path}:{function.lineno} {name}: {', '.join(what)}")
    assert seen > 150
    count = f"{seen - len(lacking)} of {seen} have their shapes in the docstring; these lack some:"
    assert not lacking, "\n".join([count, *lacking])
