"""Measure start-up and memory in a fresh process: `python -m potstill.serve.bench.fresh_process BUNDLE TEXTS [--trust]`.

It opens the bundle like any other process, answers the first text, then all others, and prints one line of JSON: the monotonic
clock at the first answer, in seconds, and the memory resident at the end, in bytes. It imports nothing that answering does not
need, since imports would count.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec

from potstill.contract.files import decode
from potstill.contract.system.memory import resident_bytes
from potstill.serve.runtime.classifier import Classifier

TRUST = "--trust"


class FreshProcess(msgspec.Struct, frozen=True):
    """The printed line."""

    first_answer_s: float  # on the monotonic clock, which all processes of a machine share
    rss_bytes: int


def main(bundle: Path, texts: Path, *, trust: bool) -> None:
    """Measure this process, which must do nothing else.

    Args:
        bundle: the folder.
        texts: file of a JSON list of pairs of text and target (or null).
        trust: as `Classifier.open` has it.
    """
    with Classifier.open(bundle, trust=trust) as classifier:
        first_answer_s = 0.0
        for text, target in decode.json(texts, decode.read_bytes(texts), list[tuple[str, str | None]]):
            classifier.classify([text], None if target is None else [target])
            first_answer_s = first_answer_s or time.monotonic()
        sys.stdout.buffer.write(msgspec.json.encode(FreshProcess(first_answer_s, resident_bytes())) + b"\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), trust=TRUST in sys.argv[3:])
