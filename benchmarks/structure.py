"""The shape of the source tree in figures: folders, files, functions, imports, docstrings.

    python benchmarks/structure.py [--list FIGURE]

Prints one line a figure; with --list, the places that a figure counts, too. It reads the files and imports none of them.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("labeler", "trainer", "export", "serve", "models", "potstill")
SMALL_LINES = 60
LONG_LINES = 40  # of a function, without its docstring
ARRAYS = re.compile(r"\b(ndarray|NDArray|Tensor|Array)\b")
SHAPE = re.compile(r"\[[A-Za-z0-9][\w .*+/-]*(, ?[\w .*+/-]+)*\]|\bscalar\b")
UNITS = ("_s", "_ms", "_us", "_ns", "_bytes", "_mb", "_rps", "_per_s")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[Path]:
    """Every Python file of the package, tests and benchmarks left out."""
    return sorted(path for stage in STAGES for path in (ROOT / stage).rglob("*.py"))


def rooms() -> Iterator[tuple[Path, int]]:
    """(folder, number of its entries) of the repository's root, and of every folder of sources, tests and benchmarks."""
    below = [ROOT / name for name in (*STAGES, "tests", "benchmarks")]
    folders = [ROOT, *below, *(path for top in below for path in top.rglob("*") if path.is_dir() and not path.is_symlink())]
    unread = {"__pycache__", "py.typed"}  # the second is an empty mark for type checkers
    for folder in folders:
        shown = [path for path in folder.iterdir() if path.name not in unread and not path.name.startswith(".")]
        shown = [
            path
            for path in shown
            if not (folder == ROOT and (path.name in {"build", "dist", "demo", "site"} or path.suffix == ".egg-info"))
        ]
        if "__pycache__" not in folder.parts:
            yield folder, len(shown)


def n_lines(path: Path) -> int:
    """Lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def function_lines(function: Function) -> int:
    """Lines of a function without its docstring."""
    docstring = function.body[0] if ast.get_docstring(function) is not None else None
    return function.end_lineno - function.lineno + 1 - (docstring.end_lineno - docstring.lineno + 1 if docstring else 0)  # type: ignore[operator]


def module_name(path: Path) -> str:
    """The import name of a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "potstill" else ("potstill", *parts)).removesuffix(".__init__")


def imported(path: Path, known: set[str]) -> set[str]:
    """Our modules that a file imports at its top level."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & known


def cycles() -> list[list[str]]:
    """Groups of modules that import each other at their top level, by Tarjan's algorithm."""
    files = {module_name(path): path for path in sources() if path.name != "__init__.py"}
    edges = {name: imported(path, set(files)) for name, path in files.items()}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in edges[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = []
            while not group or group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for name in edges:
        if name not in index:
            visit(name)
    return found


def broad_excepts(tree: ast.Module) -> Iterator[int]:
    """Lines of handlers that catch everything, or Exception or BaseException, and do not raise it again."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            names = {kind.id if isinstance(kind, ast.Name) else None if kind is None else "" for kind in caught}
            reraises = any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
            if names & {None, "Exception", "BaseException"} and not reraises:
                yield node.lineno


def public_functions(tree: ast.Module) -> Iterator[Function]:
    """Functions of the module and methods of its public classes whose names do not begin with an underscore."""
    for node in tree.body:
        inside = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else [node]
        for function in inside:
            if isinstance(function, Function) and not function.name.startswith("_") and not is_command(function):
                yield function


def is_command(function: Function) -> bool:
    """Whether click makes a command of it: then its docstring is the help that people read."""
    return any("click." in ast.unparse(decorator) for decorator in function.decorator_list)


def own_nodes(function: Function) -> Iterator[ast.AST]:
    """What a function holds, functions inside it left out."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Function | ast.Lambda | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))


def missing_in_docstring(function: Function) -> list[str]:
    """What the docstring of a function ought to name and does not: shapes of arrays, floats without a unit, errors raised."""
    docstring = ast.get_docstring(function) or ""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    annotations = {argument.arg: ast.unparse(argument.annotation) for argument in arguments if argument.annotation is not None}
    returns = ast.unparse(function.returns) if function.returns is not None else ""
    missing = []
    if any(ARRAYS.search(text) for text in [*annotations.values(), returns]) and not SHAPE.search(docstring):
        missing.append("shape")
    for name, annotation in annotations.items():
        if re.search(r"\bfloat\b", annotation) and not name.endswith(UNITS) and not re.search(rf"\b{name}\b", docstring):
            missing.append(name)
    raised = {
        ast.unparse(node.exc.func).rpartition(".")[2]
        for node in own_nodes(function)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
    }
    if raised and not re.search(r"\brais|\brefuse", docstring, re.I) and not any(name in docstring for name in raised):
        missing.append("/".join(sorted(raised)))
    return missing


def applies(function: Function) -> bool:
    """Whether a function has arrays, floats or errors of which a docstring can speak."""
    bare = ast.parse(ast.unparse(function)).body[0]
    if ast.get_docstring(bare) is not None:  # type: ignore[arg-type]
        bare.body[0].value.value = "."  # type: ignore[attr-defined]
    return bool(missing_in_docstring(bare))  # type: ignore[arg-type]


def measure() -> dict[str, tuple[str, list[str]]]:
    """Every figure by name, as (what is printed, the places that it counts)."""

    def place(path: Path, line: int = 0) -> str:
        return path.relative_to(ROOT).as_posix() + (f":{line}" if line else "")

    entries = sorted(((n, place(folder)) for folder, n in rooms()), reverse=True)
    counted = [*sources(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    files = {path: n_lines(path) for path in counted if path.name != "__init__.py"}
    small = [f"{place(path)} {n}" for path, n in sorted(files.items()) if n < SMALL_LINES]
    figures = {
        "entries in the fullest folder": (str(entries[0][0]), [f"{n} {folder}" for n, folder in entries[:12]]),
        "files": (str(len(files)), []),
        f"files under {SMALL_LINES} lines": (f"{len(small)} ({len(small) / len(files):.1%})", small),
        "files over 400 lines": (
            str(sum(n > 400 for n in files.values())),
            [f"{place(p)} {n}" for p, n in files.items() if n > 400],
        ),
    }
    lists: dict[str, list[str]] = defaultdict(list)
    n_applies = 0
    for path in sources():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lists["broad excepts"] += [place(path, line) for line in broad_excepts(tree)]
        lists[f"functions over {LONG_LINES} lines"] += [
            f"{place(path, node.lineno)} {node.name} {function_lines(node)}"
            for node in ast.walk(tree)
            if isinstance(node, Function) and function_lines(node) > LONG_LINES
        ]
        for function in public_functions(tree):
            if applies(function):
                n_applies += 1
                if missing := missing_in_docstring(function):
                    lists["docstrings"].append(f"{place(path, function.lineno)} {function.name}: {', '.join(missing)}")
    figures |= {name: (str(len(found)), found) for name, found in sorted(lists.items()) if name != "docstrings"}
    figures["import cycles"] = (str(len(found := cycles())), [" ".join(group) for group in found])
    n_named = n_applies - len(lists["docstrings"])
    figures["docstrings with shapes, units and errors"] = (
        f"{n_named} of {n_applies} ({n_named / n_applies:.1%})",
        lists["docstrings"],
    )
    return figures


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", default="", metavar="FIGURE", help="part of a figure's name: print the places that it counts")
    options = parser.parse_args()
    for name, (text, found) in measure().items():
        print(f"{name:42} {text}")
        if options.list and options.list in name:
            print(*(f"    {line}" for line in found), sep="\n")


if __name__ == "__main__":
    main()
