"""Write .github/THIRD_PARTY_NOTICES.md: the licences of what this repository carries, and of the packages that each extra asks for.

    .venv/bin/python .ci/notices.py [FILE]

What is carried is listed here, with its text beside it in the tree; a test compares it with the files. Names of licences are those
that the installed packages state about themselves.
"""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTICES = ROOT / ".github" / "THIRD_PARTY_NOTICES.md"
NOT_FOR_USERS = "dev"  # the extra of what only tests and checks import
NOT_HERE = {"mlflow-skinny": "Apache-2.0"}  # what extras ask for and a check-out does not install, since it changes other packages
_CLASSIFIER = "License :: OSI Approved :: "


@dataclass(frozen=True)
class Carried:
    """A work of others whose files lie in this repository."""

    name: str
    files: tuple[str, ...]  # from the root
    licence: str  # SPDX identifier
    licence_file: str  # from the root
    source: str
    version_pattern: str  # finds the version in the first file


CARRIED = (
    Carried(
        name="htmx",
        files=("potstill/review/pages/static/htmx.min.js",),
        licence="0BSD",
        licence_file="potstill/review/pages/static/htmx.LICENSE",
        source="https://github.com/bigskysoftware/htmx",
        version_pattern=r'version:"([\d.]+)"',
    ),
)


def version_of(carried: Carried) -> str:
    """The version that the first file states; raises ValueError if it states none."""
    found = re.search(carried.version_pattern, (ROOT / carried.files[0]).read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{carried.files[0]} states no version by {carried.version_pattern!r}")
    return found[1]


def licence_of(distribution: str) -> str:
    """What an installed package says of its licence; raises PackageNotFoundError."""
    if distribution in NOT_HERE:
        return NOT_HERE[distribution]
    told = metadata.metadata(distribution)
    if stated := told.get("License-Expression"):
        return str(stated)
    classified = [line.removeprefix(_CLASSIFIER) for line in told.get_all("Classifier") or () if line.startswith(_CLASSIFIER)]
    if classified:
        return ", ".join(sorted(classified))
    first = (told.get("License") or "").strip().split("\n")[0]
    return first if 0 < len(first) < 60 else "see its files"


def requirements() -> dict[str, list[str]]:
    """The extras that ask for each distribution, by its name; the empty extra is what is always installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {"": project["dependencies"], **project["optional-dependencies"]}
    found: dict[str, list[str]] = {}
    for extra, lines in asked.items():
        for line in lines if extra != NOT_FOR_USERS else ():
            name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
            if name != "potstill":
                found.setdefault(name, []).append(extra)
    return found


def notices() -> str:
    """The text of the file."""
    lines = ["# Third-party notices", "", "potstill is under the [MIT licence](../LICENSE). Written by `.ci/notices.py`.", ""]
    lines += ["## Carried in this repository and in the wheel", ""]
    for one in CARRIED:
        text = (ROOT / one.licence_file).read_text(encoding="utf-8").strip()
        lines += [
            f"**{one.name} {version_of(one)}**, {one.licence}, from {one.source}: {', '.join(f'`{file}`' for file in one.files)}.",
            "",
        ]
        lines += ["```text", text, "```", ""]
    lines += ["## Asked for, and installed by pip from their own distributions", ""]
    lines += [
        "Nothing of these is carried here. Each licence is the one that the package states; `*` marks what always comes.",
        "",
    ]
    lines += ["| package | licence | extras |", "| --- | --- | --- |"]
    for name, extras in sorted(requirements().items(), key=lambda item: item[0].lower()):
        lines.append(f"| {name} | {known_licence(name)} | {', '.join(extra or '*' for extra in extras)} |")
    lines += ["", "What these packages ask for in turn is listed, with versions, in `.ci/constraints.txt`. Their wheels may carry"]
    lines += ["libraries of others (onnxruntime, numpy and torch do); the notices are in those wheels.", ""]
    lines += [
        "The two packages of the extra `demo` carry models as data: SmolLM2-135M-Instruct and all-MiniLM-L6-v2, both Apache-2.0.",
        "",
    ]
    return "\n".join(lines)


def known_licence(name: str) -> str:
    """The licence of an installed package, or of one that the file named before: not every extra is installed everywhere."""
    try:
        return licence_of(name)
    except metadata.PackageNotFoundError:
        before = NOTICES.read_text(encoding="utf-8") if NOTICES.is_file() else ""
        found = re.search(rf"^\| {re.escape(name)} \| (.+?) \|", before, re.M)
        return found[1] if found else "not installed here"


if __name__ == "__main__":
    (Path(sys.argv[1]) if len(sys.argv) > 1 else NOTICES).write_text(notices(), encoding="utf-8", newline="\n")
