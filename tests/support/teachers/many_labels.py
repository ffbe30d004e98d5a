"""A task of thirty labels whose names begin alike, texts about some of them, and candidates made up without an encoder."""

import numpy as np

from potstill.contract.task import Example, Label, Task
from potstill.contract.texts import Text
from potstill.labeler.narrowing import TEMPERATURE, chosen

THINGS = ("card", "account", "transfer", "loan", "cash", "phone")
STATES = ("lost", "blocked", "not working", "too late", "charged twice")
NAMES = [f"{thing}_{state.replace(' ', '_')}" for thing in THINGS for state in STATES]


def a_task(names=tuple(NAMES), **changes) -> Task:
    labels = [Label(name=name, meaning=f"the {name.split('_')[0]} is {' '.join(name.split('_')[1:])}") for name in names]
    examples = [Example(text=f"My {name.replace('_', ' ')}", label=name) for name in names[::2]]
    return Task(format=1, name="bank", question="What is it?", guideline="Of a bank.", labels=labels, examples=examples, **changes)


TASK = a_task()
TEXTS = [Text(f"my {NAMES[i].replace('_', ' ')}, help", str(i), gold=NAMES[i]) for i in range(0, 30, 3)]


def made_up(texts=TEXTS, n_candidates=10):
    """Candidates by similarities that nobody measured: label i is likeliest for text i, and its neighbours after it."""
    places = np.arange(len(NAMES))
    distance = np.abs(places[None] - np.array([int(text.id) for text in texts])[:, None])
    return chosen(texts, (1 - 0.02 * distance) / TEMPERATURE, n_candidates)
