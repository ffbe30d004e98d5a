"""The code blocks of the documents, and the commands in them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Written by `make docs`; tests/repository/test_documentation.py compares, and docstrings have tests of their own.
GENERATED = ("docs/api.md", "docs/cli.md", "docs/http.md")
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md"), *(ROOT / "examples").rglob("*.md")]
)
SHELL = ("sh", "bash")
DATA = ("toml", "json", "yaml", "text")
LANGUAGES = (*SHELL, "python", *DATA)
PROGRAMS = ("potstill", "python", "pip", "curl", "make", "sudo", "docker", "kubectl", "npm")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<code>.*?)^ *```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    page: str
    line: int  # number of its first line of code
    language: str  # what stands behind the fence
    code: str

    @property
    def place(self) -> str:
        """Where it stands."""
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A line of a shell block, without its comment."""

    place: str
    line: str
    words: list[str]
    into: str | None = None  # the file that its output goes to


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of a page, in its order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for fence in _FENCE.finditer(text):
        code = re.sub(rf"^{fence['indent']}", "", fence["code"], flags=re.M)
        found.append(Block(page, text.count("\n", 0, fence.start()) + 2, fence["language"], code))
    return found


def commands_of(block: Block) -> list[Command]:
    """The commands of a shell block; a line that ends with a backslash goes on."""
    found, number, so_far = [], block.line, ""
    for offset, line in enumerate(block.code.splitlines()):
        number = number if so_far else block.line + offset
        so_far += line.removesuffix("\\")
        if line.endswith("\\"):
            continue
        words = shlex.split(so_far, comments=True)
        if words:
            into = words[-1] if ">" in words else None
            kept = words[: words.index(">")] if into else words
            found.append(Command(f"{block.page}:{number}", so_far.strip(), kept, into))
        so_far = ""
    return found
