"""Whether the source is valid, and finds what it takes from the standard library, under another version of CPython.

    npm pack pyodide@0.29.0        # CPython 3.13; pyodide@0.27.7 is 3.12
    python benchmarks/promises/other_pythons.py pyodide-0.29.0.tgz

The interpreter is the one in Pyodide's npm package: CPython compiled to WebAssembly, which `node` runs without a network. Every
source file is compiled with warnings as errors; every name that it imports from the standard library, and every attribute that it
reads of such a module, is looked up there. What a build for WebAssembly lacks is listed and not judged. Nothing of potstill is
executed, as numpy and msgspec have no such build: this finds what a version removed or no longer parses, and not what behaves
otherwise. With no archive the running interpreter is asked.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import subprocess
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

ROOMS = ("labeler", "trainer", "export", "serve", "models", "potstill")  # links below potstill/ are not followed twice
# Calls of Linux that WebAssembly has not; all are there in CPython 3.13 on Linux, by the Availability notes of its documentation.
_OF_LINUX = frozenset(
    "asyncio.open_unix_connection asyncio.start_unix_server os.geteuid os.memfd_create os.nice os.sched_getaffinity socket.AF_UNIX "
    "socket.SO_REUSEADDR".split()
)
_NODE = """
import {{ loadPyodide }} from {module};
const python = await loadPyodide({{ indexURL: {folder} }});
for (const [place, root] of {places}) {{
  python.FS.mkdir(place);
  python.FS.mount(python.FS.filesystems.NODEFS, {{ root }}, place);
}}
python.runPython(`import importlib, sys; sys.path.insert(0, "/program"); importlib.invalidate_caches()`);
python.runPython(`from other_pythons import found_in; from pathlib import Path`);
console.log(python.runPython(`import json; json.dumps(found_in(Path("/source")))`));
"""


def found_in(root: Path) -> dict[str, object]:
    """What the running interpreter makes of the repository: its version, the problems, and the modules that it lacks."""
    problems: list[str] = []
    absent: set[str] = set()
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
            if (lacks := _lacks(module, name)) == "module":
                absent.add(module)
            elif lacks and f"{module}.{name}" in _OF_LINUX:
                absent.add(f"{module}.{name}")
            elif lacks:
                problems.append(f"{place}:{line}: {module} has no {name}")
    version = ".".join(map(str, sys.version_info[:3]))
    return {"version": version, "n_files": len(files), "n_names": n_names, "problems": problems, "absent": sorted(absent)}


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


def _lacks(module: str, name: str) -> str:
    """`module` or `name` where the interpreter lacks it; empty where it is there."""
    try:
        found = importlib.import_module(module)
        if not name or hasattr(found, name):  # which imports where names are lazy
            return ""
    except ImportError:
        return "name" if module.partition(".")[0] in _REMOVED else "module"
    try:
        importlib.import_module(f"{module}.{name}")
    except ImportError:
        return "name"
    return ""


def found_by(archive: Path, root: Path) -> dict[str, object]:
    """The same, found by the interpreter in Pyodide's archive."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        package = Path(folder) / "package"
        places = [["/source", str(root)], ["/program", str(Path(__file__).parent)]]
        script = package / "ask.mjs"
        script.write_text(
            _NODE.format(module=json.dumps("./pyodide.mjs"), folder=json.dumps(f"{package}/"), places=json.dumps(places))
        )
        done = subprocess.run(["node", str(script)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"node ends with {done.returncode}: {done.stderr[-1500:]}")
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    """Print what was found, and fail if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, nargs="?", help="Pyodide's npm package; default: ask the running interpreter")
    archive, root = parser.parse_args().archive, Path(__file__).resolve().parents[2]
    found = found_by(archive, root) if archive else found_in(root)
    print(
        f"CPython {found['version']}: {found['n_files']} files compile, {found['n_names']} names of the standard library looked up"
    )
    print(f"not in this build, so not judged: {', '.join(found['absent']) or 'none'}")  # type: ignore[arg-type]
    for problem in found["problems"]:  # type: ignore[attr-defined]
        print(problem)
    print(f"{len(found['problems'])} problems")  # type: ignore[arg-type]
    sys.exit(1 if found["problems"] else 0)


if __name__ == "__main__":
    main()
