"""The unlabelled Reddit pool, shaped like the texts that are to be classified, and the stance posts with gold labels."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from contract.texts import Text

POOL, STANCE = "reddit_stocks_unlabelled", "reddit_wsb_stance"
N_CHARS = range(55, 701)  # nine of ten stance posts are as long; a pool of another shape costs the student points


def pool(data: Path, n: int) -> list[Text]:
    """The first ``n`` post bodies, without their titles, and comments, in turns.

    Args:
        data: folder of the data sets.
    """
    gold = {row["text"] for row in read_rows(data / STANCE / "gold_dev.jsonl.gz")}
    bodies = (row["text"][row["n_title_chars"] :].strip() for row in read_rows(data / POOL / "posts.jsonl.gz"))
    comments = (row["text"] for row in read_rows(data / POOL / "comments.jsonl.gz"))
    kept = [dict.fromkeys(text for text in source if len(text) in N_CHARS and text not in gold) for source in (bodies, comments)]
    mixed = dict.fromkeys(text for text in chain.from_iterable(zip_longest(*kept)) if text is not None)
    return [Text(text, f"pool-{i}") for i, text in enumerate(list(mixed)[:n])]


def stance(data: Path) -> list[Text]:
    """The 600 stance posts with their gold labels."""
    rows = read_rows(data / STANCE / "gold_dev.jsonl.gz")
    return [Text(row["text"], f"stance-{i}", gold=row["label"]) for i, row in enumerate(rows)]


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file of gzip-compressed JSON lines."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
