"""Read the public gold sets and the unlabelled pool of the benchmarks from gzip-compressed JSON lines."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from potstill.contract.texts import Text

POOL, STANCE, FIQA = "reddit_stocks_unlabelled", "reddit_wsb_stance", "fiqa2018_task1"
N_CHARS = range(55, 701)  # lengths of nine of ten stance posts; a pool of other lengths makes the student worse
MIN_CHARS, MAX_CHARS = 20, 3000  # of further texts; no student reads more than the upper limit


def reddit_pool(data: Path, n: int) -> list[Text]:
    """The first n post bodies (without titles) and comments, alternating. Args: data, folder of the sets."""
    gold = {text.text for text in stance(data)}
    bodies = (row["text"][row["n_title_chars"] :].strip() for row in read_rows(data / POOL / "posts.jsonl.gz"))
    comments = (row["text"] for row in read_rows(data / POOL / "comments.jsonl.gz"))
    kept = [dict.fromkeys(text for text in source if len(text) in N_CHARS and text not in gold) for source in (bodies, comments)]
    mixed = dict.fromkeys(text for text in chain.from_iterable(zip_longest(*kept)) if text is not None)
    return [Text(text, f"pool-{i}") for i, text in enumerate(list(mixed)[:n])]


def reddit_rest(data: Path, n: int, pool: list[Text]) -> list[Text]:
    """Draw n titles, bodies and comments at random, of any length, that are neither in the pool nor stance posts.

    Args:
        data: folder of the sets.
        n: number of texts.
        pool: the texts of :func:`reddit_pool`.
    """
    posts = list(read_rows(data / POOL / "posts.jsonl.gz"))
    titles = (row["text"][: row["n_title_chars"]] for row in posts)
    bodies = (row["text"][row["n_title_chars"] :] for row in posts)
    comments = (row["text"] for row in read_rows(data / POOL / "comments.jsonl.gz"))
    known = {_beginning(text.text) for text in [*pool, *stance(data)]}
    kept = dict.fromkeys(text.strip() for text in chain(titles, bodies, comments))
    texts = [text for text in kept if len(text) >= MIN_CHARS and _beginning(text) not in known]
    random.Random(0).shuffle(texts)
    return [Text(text[:MAX_CHARS], f"rest-{i}") for i, text in enumerate(texts[:n])]


def _beginning(text: str) -> str:
    """A key that is the same for a text that was cut or has other white space."""
    return " ".join(text.split())[:50]


def stance(data: Path) -> list[Text]:
    """Reddit posts with their stance."""
    return _texts("stance", read_rows(data / STANCE / "gold_dev.jsonl.gz"))


def fiqa(data: Path, source: str) -> list[Text]:
    """FiQA 2018 task 1, all splits, each text once; for a text with several targets, the label of the first.

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


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of one file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _texts(name: str, rows: Any) -> list[Text]:
    """Rows as texts, each text once."""
    found = {row["text"]: row["label"] for row in rows}
    return [Text(text, f"{name}-{i}", gold=label) for i, (text, label) in enumerate(found.items())]
