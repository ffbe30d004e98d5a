"""What a bundle knows of the texts it was made from, so that it can tell one unlike them (`familiarity.json`, format 1).

The file is optional, and stands beside `bundle.json` instead of in it: a reader that does not know it answers all the same. It
holds a score for each token of the pool, and none of its texts. A text's score is the mean over its tokens; where the graph has a
second output, the distance of the text's middle layer from the pool's, that is added with a weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from potstill.contract.errors import FormatError
from potstill.contract.files import decode
from potstill.contract.files.decode import Strict

FORMAT = 1
FAMILIARITY_FILE = "familiarity.json"
MAX_FILE_BYTES = 2**24  # far above what an export writes
MAX_TOKEN = 2**21  # the largest id, several times what the largest vocabularies have
MAX_SCORE = 100.0  # of a token, either way; logarithms of a ratio of shares stay far below


class Familiarity(Strict):
    """The tokens of the pool with their scores, and the threshold above which a text is called unfamiliar."""

    format: int
    rate: float  # share of the pool's texts that the threshold may call unfamiliar, above 0 and below 1: on average, not surely
    threshold: float  # a text is unfamiliar if its score is above this
    n: int  # number of held-out texts that the threshold was chosen on
    n_counted: int  # number of other texts whose tokens were counted
    tokens: list[int]  # ids, ascending
    scores: list[float]  # one for each: log of its share elsewhere over its share here
    unseen: float  # score of every other token
    distance_weight: float = 0.0  # of the graph's distance in the score, at least 0; 0: the graph gives none


def write_familiarity(folder: Path, familiarity: Familiarity) -> None:
    """Write `familiarity.json` into a folder that is being filled."""
    (folder / FAMILIARITY_FILE).write_bytes(msgspec.json.encode(familiarity) + b"\n")


def read_familiarity(path: Path, data: bytes) -> Familiarity:
    """Read the content of a `familiarity.json`.

    Args:
        path: of the file, for messages.
        data: its bytes.
    Raises:
        FormatError: if it is malformed, of another format, or a number is out of range.
    """
    found = decode.json(path, data, Familiarity, newest=FORMAT)
    if found.format != FORMAT:
        raise FormatError(path, "format", f"is {found.format}; this version reads {FORMAT}")
    if not 0 < found.rate < 1:
        raise FormatError(path, "rate", f"is {found.rate}; it must be above 0 and below 1")
    if found.n < fewest_held_out(found.rate):
        raise FormatError(path, "n", f"is {found.n}; a rate of {found.rate:g} needs at least {fewest_held_out(found.rate)} texts")
    if len(found.tokens) != len(found.scores):
        raise FormatError(path, "scores", f"are {len(found.scores)} for {len(found.tokens)} tokens; give one for each")
    if any(low >= high for low, high in zip([-1, *found.tokens], found.tokens, strict=False)):
        raise FormatError(path, "tokens", "are not ascending ids from 0 on; export the bundle again")
    if found.tokens and found.tokens[-1] > MAX_TOKEN:
        raise FormatError(path, "tokens", f"go up to {found.tokens[-1]}; ids above {MAX_TOKEN} are no vocabulary's")
    if not 0 <= found.distance_weight <= MAX_SCORE:
        raise FormatError(path, "distance_weight", f"is {found.distance_weight}; it must be from 0 to {MAX_SCORE:g}")
    if not all(abs(score) <= MAX_SCORE for score in [*found.scores, found.unseen, found.threshold]):  # NaN fails this too
        raise FormatError(path, "scores", f"must be from {-MAX_SCORE:g} to {MAX_SCORE:g}; export the bundle again")
    return found


def fewest_held_out(rate: float) -> int:
    """Smallest number of held-out texts for a rate of false alarms, above 0 and below 1; with fewer no threshold keeps it."""
    n = max(1, math.floor((1 - rate) / rate))
    while rank_of_threshold(n, rate) > n:
        n += 1
    return n


def rank_of_threshold(n: int, rate: float) -> int:
    """Which of n scores, in ascending order from 1, is the threshold: on average, at most `rate` of further texts exceed it.

    Source: the quantile of split conformal prediction, Angelopoulos and Bates 2021, arXiv:2107.07511, section 1.
    """
    return math.ceil((n + 1) * (1 - rate) - 1e-9)  # the margin is for 0.95 not being exact


def unfamiliarity_of(familiarity: Familiarity) -> Callable[[Sequence[int], float], float]:
    """The function that gives a text's score: the mean score of its tokens, plus its weighted distance.

    Its arguments are the text's token ids, in any order, and its distance from the pool, at least 0. A text without tokens has
    the distance alone.
    """
    unseen, weight = familiarity.unseen, familiarity.distance_weight
    scores = [unseen] * (familiarity.tokens[-1] + 1 if familiarity.tokens else 0)  # a list is looked up faster than a dictionary
    for token, score in zip(familiarity.tokens, familiarity.scores, strict=True):
        scores[token] = score
    score_of, n_listed = scores.__getitem__, len(scores)

    def of_tokens(tokens: Sequence[int], _: float) -> float:
        """The mean score of a text's tokens: all there is without a distance, and fast enough for the fastest students."""
        if not tokens:
            return 0.0
        try:
            return sum(map(score_of, tokens)) / len(tokens)
        except IndexError:  # a token beyond the list
            return sum([score_of(token) if token < n_listed else unseen for token in tokens]) / len(tokens)

    def of_both(tokens: Sequence[int], distance: float) -> float:
        """The score of one text."""
        return of_tokens(tokens, distance) + weight * distance

    return of_both if weight else of_tokens
