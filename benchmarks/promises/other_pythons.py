"""Whether the source is valid, and finds what it takes from the standard library, under another version of CPython.

    python3.13 benchmarks/promises/other_pythons.py

Every source file is compiled with warnings as errors; every name that it imports from the standard library, and every attribute
that it reads of such a module, is looked up in the interpreter that runs this. Nothing of potstill is executed and no library is
needed: this finds what a version removed or no longer parses, and not what behaves otherwise.
"""

from __future__ import annotations

import ast
import importlib
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOMS = ("labeler", "trainer", "export", "serve", "models", "potstill")  # links below potstill/ are not followed twice


@dataclass(frozen=True)
class Found:
    """What an interpreter makes of the source."""

    version: str
    n_files: int
    n_names: int  # of the standard library, each place counted
    problems: list[str]


def found_in(root: Path) -> Found:
    """Look through the repository, or a folder like it, with the running interpreter."""
    problems: list[str] = []
    files = sorted(path for room in ROOMS for path in (root / room).rglob("*.py"))
    n_names = 0
    for path in files:
        text, place = path.read_text(encoding="utf-8"), path.relative_to(root)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                compile(text, str(place), "exec")
            except (SyntaxError, Warning) as problem:
                problems.append(f"{place}: {type(problem).__name__}: {problem}")
                continue
        for line, module, name in names_of(ast.parse(text)):
            n_names += 1
            if not _has(module, name):
                problems.append(f"{place}:{line}: {module} has no {name}" if name else f"{place}:{line}: there is no {module}")
    return Found(".".join(map(str, sys.version_info[:3])), len(files), n_names, problems)


def names_of(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """(line, module of the standard library, name) of each import from one, and of each attribute of an imported one."""
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                if _is_standard(one.name):
                    aliases[one.asname or one.name.partition(".")[0]] = one.name if one.asname else one.name.partition(".")[0]
                    yield node.lineno, one.name, ""
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level and _is_standard(node.module):
            for one in node.names:
                yield node.lineno, node.module, one.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            yield node.lineno, aliases[node.value.id], node.attr


def _is_standard(module: str) -> bool:
    """True for a module of the standard library of the versions that are compared; a removed one is still asked for."""
    return module.partition(".")[0] in {*sys.stdlib_module_names, *_REMOVED} - {"__future__"}


# What 3.12 and 3.13 removed from the standard library: https://docs.python.org/3.13/whatsnew/3.13.html, and that of 3.12.
_REMOVED = frozenset(
    "aifc asynchat asyncore audioop cgi cgitb chunk crypt distutils imghdr imp lib2to3 mailcap msilib nis nntplib ossaudiodev "
    "pipes smtpd sndhdr spwd sunau telnetlib uu xdrlib".split()
)


def _has(module: str, name: str) -> bool:
    """Whether the interpreter has a module, and in it the name: an attribute, or a module below it."""
    try:
        found = importlib.import_module(module)
        return not name or hasattr(found, name) or bool(importlib.import_module(f"{module}.{name}"))
    except ImportError:
        return False


def main() -> None:
    """Print what was found, and fail if anything is wrong."""
    found = found_in(Path(__file__).resolve().parents[2])
    print(f"CPython {found.version}: {found.n_files} files compile, {found.n_names} names of the standard library looked up")
    for problem in found.problems:
        print(problem)
    print(f"{len(found.problems)} problems")
    sys.exit(1 if found.problems else 0)


if __name__ == "__main__":
    main()
