"""The texts that a second teacher is asked about: those of which the first one is not certain after calibration.

Its paths are a run of their own in the same store, which names the run that it follows (`RunSettings.after`). Soft labels of such a
run are derived from the paths of both teachers (`aggregation/path_table.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from potstill.contract.texts import Text
from potstill.labeler.config import UncertainRule
from potstill.labeler.run.adaptive import certainties
from potstill.labeler.store.database import LabelStore, Run


def uncertain_texts(store: LabelStore, run: Run, texts: Sequence[Text], rule: UncertainRule) -> list[Text]:
    """The texts of which a finished run is not certain, the least certain one first.

    It depends on the stored paths alone, so a stopped command that goes on chooses the same texts.

    Args:
        run: of the first teacher; texts without a path in it are left out.
    """
    certainty = certainties(store, run, below=run.settings.n_variants)
    ranked = sorted((text for text in texts if text.id in certainty), key=lambda text: (certainty[text.id], text.id))
    if rule.below is None:
        return ranked[: round(rule.share * len(ranked))]
    return [text for text in ranked if certainty[text.id] < rule.below]
