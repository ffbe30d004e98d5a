"""Damage a bundle in thousands of ways, with sums that fit, and count what `potstill verify` makes of it.

    python benchmarks/promises/bundle_fuzz.py out/bundle --cases 2000

Each case changes some bytes of one file: at random places, by cutting, or by repeating a piece. A child process with bounded memory
verifies them one after the other, and another takes over where one dies. Counted are: refused in one line, sound (the change did
not reach an answer), a traceback, a child that died, cases of more than two seconds, and bundles that `verify` calls sound although
a golden text gets another answer.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from potstill.contract.bundle import read_golden, write_sums
from potstill.contract.errors import UserError
from potstill.contract.system.child_process import environment
from potstill.serve.offline.verify import verify
from potstill.serve.runtime.classifier import Classifier

FILES = ("model.onnx", "tokenizer.json", "bundle.json", "golden.jsonl")
MEMORY_BYTES = 4_000_000_000  # of addresses, of which libraries reserve far more than they use
SLOW_S = 2.0
WRONG = 2e-2  # change of a golden probability that counts as another answer


def changed(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to four changes."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, way = rng.randrange(max(1, len(out))), rng.random()
        if way < 0.6:
            out[at : at + 1] = bytes([rng.randrange(256)])
        elif way < 0.75:
            del out[at : at + rng.randint(1, 64)]
        elif way < 0.9:
            out[at:at] = out[at : at + rng.randint(1, 64)] * rng.randint(1, 4)
        else:
            out[at : at + 1] = bytes([out[at] ^ 1 << rng.randrange(8)]) if out else b""
    return bytes(out)


def outcome(original: Path, bundle: Path) -> str:
    """What `verify` makes of a bundle, held against the answers of the original's golden texts where it is sound."""
    try:
        found = verify(bundle)
    except Exception as error:  # noqa: BLE001 - what is counted here
        return f"traceback {type(error).__name__}: {traceback.format_exc().splitlines()[-1][:200]}"
    except BaseException as error:  # noqa: BLE001 - a panic of tokenizers is no Exception
        return f"traceback {type(error).__name__}: {str(error)[:200]}"
    if found.problems:
        return "refused" if all("\n" not in line for line in found.problems) else "more than one line"
    golden = read_golden(bundle)
    try:
        with Classifier.open(bundle) as classifier:
            rows = classifier.probs(
                [row.text for row in golden], [row.target or "" for row in golden] if golden[0].target else None
            )
    except UserError:
        return f"sound for {original.name}, refused when opened"
    change = max(
        abs(one - other) for row, line in zip(rows, golden, strict=True) for one, other in zip(row, line.probs, strict=True)
    )
    return "sound" if change <= WRONG else "accepted but wrong"


def work(original: Path, first: int, last: int) -> None:
    """Verify the cases of these numbers; one line of JSON for each: number, file, outcome, seconds."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    with tempfile.TemporaryDirectory() as scratch:
        for case in range(first, last):
            rng = random.Random(case)
            bundle = Path(scratch) / str(case)
            shutil.copytree(original, bundle)
            path = bundle / FILES[case % len(FILES)]
            path.write_bytes(changed(path.read_bytes(), rng))
            write_sums(bundle)
            start = time.perf_counter()
            found = outcome(original, bundle)
            print(json.dumps([case, path.name, found, round(time.perf_counter() - start, 3)]), flush=True)
            shutil.rmtree(bundle)


def main() -> None:
    """Run the cases in children and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="Number of the first case.")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    at, last = options.first, options.first + options.cases
    if options.child:
        work(options.bundle, at, last)
        return
    if problems := verify(options.bundle).problems:
        sys.exit(f"the bundle must be sound: {problems[0]}")
    counts: Counter[str] = Counter()
    slowest = 0.0
    while at < last:
        command = [sys.executable, __file__, str(options.bundle), "--first", str(at), "--cases", str(last - at), "--child"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(), check=False)
        for line in done.stdout.splitlines():
            case, name, found, seconds = json.loads(line)
            at, slowest = case + 1, max(slowest, seconds)
            counts[found.partition(":")[0]] += 1
            counts["slow"] += seconds > SLOW_S
            if found not in ("refused", "sound") or seconds > SLOW_S:
                print(f"case {case} ({name}): {found}, {seconds:.2f} s")
        if done.returncode and at < last:
            print(f"case {at}: the child died ({done.returncode})")
            counts["died"] += 1
            at += 1
    print(f"{options.cases} cases: {dict(counts)}; slowest {slowest:.2f} s")


if __name__ == "__main__":
    main()
