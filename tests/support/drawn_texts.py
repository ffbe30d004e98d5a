"""Texts of random words: as many as wanted, all different, of one source unless told otherwise."""

import random

WORDS = [
    a + b + c for a in ("ba", "ke", "li", "mo", "nu") for b in ("ra", "se", "ti", "go", "pu") for c in ("n", "s", "l", "x", "")
]


def drawn_texts(n, seed, words=(6, 30)):
    """n texts of that many words; some words are frequent, most are rare, and half the texts end with a full stop."""
    rng = random.Random(seed)
    weights = [1 / (i + 1) for i in range(len(WORDS))]
    return [" ".join(rng.choices(WORDS, weights, k=rng.randint(*words))) + rng.choice(["", "."]) for _ in range(n)]
