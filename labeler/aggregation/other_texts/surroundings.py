"""What is known of the other texts around a text: embeddings of all, and the nearest ones, as far as a derivation needs them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.system.progress import tell_progress
from potstill.contract.texts import Text
from potstill.labeler.aggregation.config import UNREFINED, DeriveConfig
from potstill.labeler.aggregation.other_texts.smoothing import Neighbours, nearest
from potstill.labeler.aggregation.other_texts.text_prior import MIN_TEXTS
from potstill.labeler.encoder_at_hand import encoder_at_hand
from potstill.models.catalog import find_backbone


@dataclass(frozen=True)
class Surroundings:
    """Embeddings and neighbours of N texts; None where they are not needed."""

    vectors: NDArray[np.float32] | None = None  # [N, H], rows of length 1; to refine by
    near: Neighbours | None = None  # to smooth by
    guessed: bool = True  # whether the shares that labels are calibrated to are a guess, which refining may correct
    asks_gold: bool = False  # whether gold texts may decide against refining


NOTHING = Surroundings()
N_TIMED, N_FEW = 128, 8  # texts on which an encoder is timed


class TextSpace:
    """Embeddings of texts that were asked for before are kept: the questions of a labelling are about the same texts."""

    def __init__(self, backbone: str) -> None:
        """Open a space that no text is in yet. Args: backbone, a name of the catalog or a folder."""
        self._backbone = backbone
        self._places: dict[tuple[str, str | None], int] = {}
        self._vectors: NDArray[np.float32] | None = None

    def vectors(self, texts: Sequence[Text]) -> NDArray[np.float32]:
        """Embeddings of the texts, float32 [N, H], rows of length 1.

        Raises:
            UserError: if the backbone is not on this machine.
            FormatError: if it cannot be read.
            ModuleNotFoundError: if torch or transformers is not installed.
        """
        new = [text for text in texts if (text.text, text.target) not in self._places]
        if new or self._vectors is None:
            tell_progress("load the encoder")
            from potstill.labeler.embeddings import embeddings  # torch is loaded only here

            found = embeddings(new, find_backbone(self._backbone).path)
            first = 0 if self._vectors is None else len(self._vectors)
            self._places |= {(text.text, text.target): first + i for i, text in enumerate(new)}
            self._vectors = found if self._vectors is None else np.concatenate([self._vectors, found])
        return self._vectors[[self._places[text.text, text.target] for text in texts]]


@dataclass(frozen=True)
class EmbeddingPace:
    """How long embedding takes on this machine."""

    start_s: float  # to load the encoder
    text_s: float

    def seconds(self, n_texts: int) -> float:
        """For so many texts."""
        return self.start_s + n_texts * self.text_s


def embedding_pace(texts: Sequence[Text], backbone: str) -> EmbeddingPace:
    """Time an encoder on some of the texts: on a few, and then on more, so that loading it is told from its work.

    Raises:
        UserError, FormatError, ModuleNotFoundError: as :meth:`TextSpace.vectors`.
    """
    sample = list(texts[:: max(1, len(texts) // N_TIMED)][:N_TIMED])  # from the whole file: texts at its start may be short
    few = sample[:: max(1, len(sample) // N_FEW)]
    TextSpace(backbone).vectors(few)  # libraries are loaded, and the file is in memory
    few_s, all_s = _embedding_s(few, backbone), _embedding_s(sample, backbone)
    text_s = max(0.0, all_s - few_s) / max(1, len(sample) - len(few))
    return EmbeddingPace(max(0.0, few_s - len(few) * text_s), text_s)


def _embedding_s(texts: Sequence[Text], backbone: str) -> float:
    """Seconds that an encoder takes, from its file to the embeddings."""
    began = time.monotonic()
    TextSpace(backbone).vectors(texts)
    return time.monotonic() - began


def settled(config: DeriveConfig, n_texts: int) -> tuple[DeriveConfig, str | None]:
    """Decide whether to refine where the configuration leaves it open (`auto`): yes, unless something speaks against it.

    Returns:
        The configuration with `on` or `off`; if it was open and something is missing, a line for a person that says what.
    """
    if config.refine != "auto":
        return config, None
    off = replace(config, refine="off")
    if config.method in UNREFINED or n_texts < MIN_TEXTS:
        return off, None
    encoder, reason = encoder_at_hand(config.backbone)
    if encoder is None:
        return off, f"labels are not refined by what other texts say: {reason}"
    return replace(config, refine="on"), None


def surroundings(texts: Sequence[Text], config: DeriveConfig, space: TextSpace | None = None) -> Surroundings:
    """What a derivation needs to know about other texts.

    Args:
        texts: [N].
        config: settled.
        space: where embeddings are kept; None: they are not.
    Raises:
        UserError: if there are not enough texts, or the backbone is not on this machine.
        FormatError: if the backbone cannot be read.
    """
    if config.smooth and config.smooth >= len(texts):
        most = len(texts) - 1
        raise UserError(f"smooth is {config.smooth} neighbours, and the run has {most + 1} texts; ask for at most {most}")
    if not config.smooth and config.refine != "on":
        return NOTHING
    vectors = (space or TextSpace(config.backbone)).vectors(texts)
    return Surroundings(
        vectors=vectors if config.refine == "on" else None,
        near=nearest(vectors, config.smooth) if config.smooth else None,
        guessed=config.prior is None,
    )
