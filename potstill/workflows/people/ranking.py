"""The ranked queue of a review: texts embedded once, kept beside the store, and ordered by what a label is worth."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.contract.files import atomic, digest
from potstill.contract.texts import Text
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.other_texts.smoothing import Neighbours, nearest
from potstill.labeler.encoder_at_hand import encoder_at_hand
from potstill.review.corpus.texts import Corpus
from potstill.review.queue.spread import spread_ranked
from potstill.review.queue.worth import worth

N_NEIGHBOURS = 10
SUFFIX = ".vectors.npz"  # of the file beside the store

Tell = Callable[[str], None]


def ranked_order(corpus: Corpus, ids: Sequence[str], tell: Tell, backbone: str = DeriveConfig.backbone) -> list[str]:
    """The ids, those first whose label is worth most, spread over the embedding space.

    Args:
        tell: takes a line for a person: why texts are not embedded, or that it takes a while.
        backbone: the encoder in whose space texts are near; without torch the teacher's doubt alone decides.
    Raises:
        FormatError: if the encoder cannot be read.
    """
    texts = [corpus.texts[text_id] for text_id in ids]
    vectors = _vectors(texts, corpus.path, backbone, tell) if len(texts) > N_NEIGHBOURS else None
    near: Neighbours | None = None if vectors is None else nearest(vectors, N_NEIGHBOURS)
    order = spread_ranked(worth(ids, corpus.questions, corpus.answers, near), vectors)
    return [ids[place] for place in order.tolist()]


def _vectors(texts: Sequence[Text], store: Path, backbone: str, tell: Tell) -> NDArray[np.float32] | None:
    """Embeddings of the texts, float32 [N, H], from the file beside the store if they are there; None where nothing can embed."""
    encoder, reason = encoder_at_hand(backbone)
    if encoder is None:
        tell(f"the queue is ranked by the teacher's doubt alone, not by what texts are near: {reason}")
        return None
    key = digest.of_value([encoder.sha256, *([text.text, text.target] for text in texts)])
    file = store.with_name(store.name + SUFFIX)
    kept = _kept(file, key)
    if kept is not None and len(kept) == len(texts):
        return kept
    from potstill.labeler.embeddings import embeddings  # torch is loaded only here

    tell(f"embedding {len(texts)} texts; the next start reads them from {file.name}")
    vectors = embeddings(texts, encoder.path)
    data = io.BytesIO()
    np.savez(data, key=np.array(key), vectors=vectors.astype(np.float16))
    atomic.write_file(file, data.getvalue())
    return vectors


def _kept(file: Path, key: str) -> NDArray[np.float32] | None:
    """The embeddings of an earlier start; None where they are of other texts, or the file is not what was written."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return None
            vectors = stored["vectors"].astype(np.float32)
    except (OSError, ValueError, KeyError, EOFError):
        return None
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-6), dtype=np.float32)
