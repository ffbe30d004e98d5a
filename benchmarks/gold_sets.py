"""The public sets that benchmarks are scored on, and the unlabelled pool, read from a folder of gzip-compressed JSON lines."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from contract.texts import Text

POOL, STANCE, FIQA = "reddit_stocks_unlabelled", "reddit_wsb_stance", "fiqa2018_task1"
N_CHARS = range(55, 701)  # nine of ten stance posts are as long; a pool of another shape costs the student points


def reddit_pool(data: Path, n: int) -> list[Text]:
    """The first ``n`` post bodies, without their titles, and comments, in turns, each on one line, as the stance posts are.

    Args:
        data: folder of the sets.
    """
    gold = {text.text for text in stance(data)}
    bodies = (_on_one_line(row["text"][row["n_title_chars"] :]) for row in read_rows(data / POOL / "posts.jsonl.gz"))
    comments = (_on_one_line(row["text"]) for row in read_rows(data / POOL / "comments.jsonl.gz"))
    kept = [dict.fromkeys(text for text in source if len(text) in N_CHARS and text not in gold) for source in (bodies, comments)]
    mixed = dict.fromkeys(text for text in chain.from_iterable(zip_longest(*kept)) if text is not None)
    return [Text(text, f"pool-{i}") for i, text in enumerate(list(mixed)[:n])]


def stance(data: Path) -> list[Text]:
    """Reddit posts by stance."""
    return _texts("stance", read_rows(data / STANCE / "gold_dev.jsonl.gz"))


def fiqa(data: Path, source: str) -> list[Text]:
    """FiQA 2018 task 1, all splits, each text once; where a text names several targets, the first one's label counts.

    Args:
        source: `headline` or `post`.
    """
    rows = chain.from_iterable(read_rows(data / FIQA / f"{split}.jsonl.gz") for split in ("train", "dev", "test"))
    first = {row["text"]: row for row in reversed([row for row in rows if row["source"] == source])}
    return _texts(source, first.values())


def split_of(folder: str, split: str) -> Callable[[Path], list[Text]]:
    """A reader of one split of a set."""
    return lambda data: _texts(folder, read_rows(data / folder / f"{split}.jsonl.gz"))


SETS: dict[str, Callable[[Path], list[Text]]] = {
    "Reddit stance": stance,
    "FiQA News": lambda data: fiqa(data, "headline"),
    "FiQA Post": lambda data: fiqa(data, "post"),
    "PhraseBank": split_of("financial_phrasebank", "test"),
    "Twitter news": split_of("twitter_financial_news", "test"),
}


def _on_one_line(text: str) -> str:
    """The text with single spaces."""
    return " ".join(text.split())


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of one file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _texts(name: str, rows: Any) -> list[Text]:
    """Rows as texts, each text once."""
    found = {row["text"]: row["label"] for row in rows}
    return [Text(text, f"{name}-{i}", gold=label) for i, (text, label) in enumerate(found.items())]
