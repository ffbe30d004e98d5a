"""Time and memory until a bundle is open or refused: a real one, damaged copies of it, and ones made to explode.

    PYTHONPATH=.:tests python benchmarks/promises/bundle_opening.py out/bundle

Each is verified in a process of its own, with its sums written anew. Time counts from the call, without the imports; memory is the
process's peak above what it had after its imports. Damaged copies ask for more than the file holds: graphs that create billions of
numbers, tokenizers that multiply texts, sums, golden texts and manifests far too large (`tests/support` has them).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
from support.attacks.graph import ATTACKS as GRAPHS
from support.attacks.graph import SIZE_ATTACKS
from support.attacks.tokenizer import ATTACKS as TOKENIZERS
from support.tiny_bundle import write_bundle

from potstill.contract.bundle import GOLDEN_TEXT_CHARS, MAX_GOLDEN_CHARS, write_sums
from potstill.contract.system.child_process import environment

PATIENCE_S = 120
MOST_SUMMED = 1_000_000_000  # bytes of a file whose sum is written anew; larger ones are refused before they are hashed
CHILD = """
import json, sys, time
from pathlib import Path
from potstill.contract.system.memory import peak_resident_bytes
from potstill.serve.offline.verify import verify
before = peak_resident_bytes()
began = time.perf_counter()
found = verify(Path(sys.argv[1]))
took = time.perf_counter() - began
print(json.dumps([took, (peak_resident_bytes() - before) / 1e6, [line[-100:] for line in found.problems][:1]]))
"""


def changed_graph(change: Callable[[onnx.ModelProto], None]) -> Callable[[Path], None]:
    """Change the graph of a bundle."""

    def apply(folder: Path) -> None:
        model = onnx.load(folder / "model.onnx")
        change(model)
        (folder / "model.onnx").write_bytes(model.SerializeToString())

    return apply


def changed_tokenizer(change: Callable[[dict[str, object]], None]) -> Callable[[Path], None]:
    """Change the tokenizer of a bundle."""

    def apply(folder: Path) -> None:
        form = json.loads((folder / "tokenizer.json").read_text())
        change(form)
        (folder / "tokenizer.json").write_text(json.dumps(form))

    return apply


def huge(name: str, n_bytes: int) -> Callable[[Path], None]:
    """Make one file of a bundle as large as that, without taking up the disk."""

    def apply(folder: Path) -> None:
        with (folder / name).open("r+b") as file:
            file.truncate(n_bytes)

    return apply


def repeated(name: str, n_bytes: int) -> Callable[[Path], None]:
    """Repeat the content of one file."""

    def apply(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data * (n_bytes // len(data)))

    return apply


def cases(bundle: Path) -> Iterator[tuple[str, Path | None, Callable[[Path], None]]]:
    """(name, bundle that is copied, None for a tiny one, change) of each."""
    yield "as it is", bundle, lambda folder: None
    for name in ("SHA256SUMS", "bundle.json", "golden.jsonl", "tokenizer.json", "model.onnx", "quality.json"):
        yield f"{name} of 3 GB", bundle, huge(name, 3_000_000_000)
    yield "golden.jsonl repeated to 8 MB", bundle, repeated("golden.jsonl", 8_000_000)
    yield "golden texts up to the allowed number, each long", bundle, long_golden
    for change, _ in [*SIZE_ATTACKS, *GRAPHS]:
        yield f"graph: {change.__name__}", None, changed_graph(change)
    for change, _ in TOKENIZERS:
        yield f"tokenizer: {change.__name__}", None, changed_tokenizer(change)


def long_golden(folder: Path) -> None:
    """Texts as many and as long as the file may be."""
    row = json.loads((folder / "golden.jsonl").read_text().splitlines()[0])
    line = json.dumps({**row, "text": "the price will rise " * 300}) + "\n"
    (folder / "golden.jsonl").write_text(line * (MAX_GOLDEN_CHARS // GOLDEN_TEXT_CHARS))


def measure(source: Path | None, change: Callable[[Path], None]) -> tuple[float, float, str]:
    """(seconds, MB, what was said) of one."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        if source is None:
            write_bundle(folder)
        else:
            shutil.copytree(source, folder)
        before = (folder / "SHA256SUMS").stat().st_size
        change(folder)
        if max(path.stat().st_size for path in folder.iterdir()) < MOST_SUMMED and (folder / "SHA256SUMS").stat().st_size == before:
            write_sums(folder)
        command = [sys.executable, "-c", CHILD, str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=PATIENCE_S, check=False)
        except subprocess.TimeoutExpired:
            return float(PATIENCE_S), 0.0, "NO END"
    if done.returncode:
        return 0.0, 0.0, f"DIED with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
    seconds, mb, problems = json.loads(done.stdout)
    return seconds, mb, problems[0] if problems else "open"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    options = parser.parse_args()
    rows = []
    print("| bundle | seconds | MB | said |\n|---|---:|---:|---|")
    for name, source, change in cases(options.bundle.resolve()):
        seconds, mb, said = measure(source, change)
        rows.append((seconds, mb, said))
        print(f"| {name} | {seconds:.3f} | {mb:.0f} | {said} |", flush=True)
    died = sum(said.startswith(("NO END", "DIED")) for _, _, said in rows)
    slowest, most = (max(row[at] for row in rows) for at in (0, 1))
    print(f"\n{len(rows)} bundles, {died} without an end; slowest {slowest:.2f} s, most {most:.0f} MB")
    return int(bool(died))


if __name__ == "__main__":
    sys.exit(main())
