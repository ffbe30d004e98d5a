"""Console commands whose results stay, so that a benchmark that was stopped goes on where it was."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from potstill.contract.texts import Text, write_texts

ROOT = Path(__file__).resolve().parent.parent


class Steps:
    """Commands, each run once, and how long they took."""

    def __init__(self, out: Path) -> None:
        """Args: out, the folder of everything."""
        self.out = out
        self._file = out / "seconds.json"
        out.mkdir(parents=True, exist_ok=True)
        self.seconds: dict[str, float] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def run(self, name: str, result: Path, *arguments: object) -> Path:
        """The result, made by `potstill ARGUMENTS` unless it is there; a command that fails ends the program with its own line."""
        if result.exists():
            return result
        print(f"{name} ...", file=sys.stderr, flush=True)
        result.parent.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        code = "import sys; from potstill.commands.main import run; sys.exit(run(sys.argv[1:]))"
        done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            sys.exit(done.returncode)
        if not result.exists():  # a command that prints its result
            result.write_bytes(done.stdout)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start
        self._file.write_text(json.dumps(self.seconds, indent=2))
        return result

    def gold(self, name: str, texts: list[Text]) -> Path:
        """A file of gold texts."""
        file = self.out / "gold" / f"{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(write_texts(texts))
        return file

    def texts(self, name: str, texts: list[Text]) -> Path:
        """A file of texts."""
        file = self.out / f"{name}.jsonl"
        file.write_bytes(write_texts(texts))
        return file

    def labels(self, name: str, task: Path, texts: list[Text], asked: list[object]) -> Path:
        """The teacher's soft labels of the texts, which it sees without gold. Args: asked, options of `potstill label`."""
        folder = self.out / "labels" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        file = folder.parent / f"{name}.jsonl"
        file.write_bytes(write_texts([Text(text.text, text.id) for text in texts]))
        return self.run(f"label {name}", folder / "soft_labels.parquet", "label", task, file, folder, *asked)

    def as_text(self) -> str:
        """A line for each step: its name and seconds."""
        return "\n".join(f"{name}: {seconds:.0f} s" for name, seconds in self.seconds.items())
