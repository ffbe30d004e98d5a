"""Snorkel's label model, where the extra `snorkel` is installed. It takes one label per vote, and looks at votes only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.labeler.weak_supervision.votes import VoteTable

MIN_SOURCES = 3  # the model learns from how three sources agree
N_EPOCHS = 500
ABSTAINS = -1  # in its matrix


def snorkel(votes: VoteTable, prior: NDArray[np.float64], accuracy: float) -> NDArray[np.float64]:
    """The distributions of Snorkel's label model.

    Args:
        votes: of S sources on N texts; a vote that is a distribution counts for its most probable label.
        prior: float [C], above 0, sums to 1: the labels' shares, which this model does not estimate.
        accuracy: what share of a source's votes is believed to be right before, 0 to 1.
    Returns:
        float [N, C], rows sum to 1.
    Raises:
        UserError: if there are fewer than three sources.
        ModuleNotFoundError: if Snorkel is not installed.
    Source: Ratner et al. 2019, Training complex models with multi-task weak supervision, AAAI 33.
    """
    if len(votes.sources) < MIN_SOURCES:
        raise UserError(f"method snorkel needs at least {MIN_SOURCES} sources that vote, and there are {len(votes.sources)}")
    from snorkel.labeling.model import LabelModel

    matrix = np.where(votes.voted, votes.probs.argmax(axis=2), ABSTAINS).T  # [N, S]
    model = LabelModel(cardinality=len(votes.labels), verbose=False)
    model.fit(matrix, class_balance=prior.tolist(), n_epochs=N_EPOCHS, prec_init=accuracy, seed=0, progress_bar=False)
    return np.asarray(model.predict_proba(matrix), dtype=np.float64)
