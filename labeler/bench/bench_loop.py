"""The first peer: what people do today, one `create_completion` after the other on the file as it is shipped."""

from __future__ import annotations

import time
from pathlib import Path

from llama_cpp import Llama

from potstill.labeler.bench.turns import Turn
from potstill.labeler.bench.workload import STOP, Counted, Workload
from potstill.labeler.engine.sampler import TOP_K
from potstill.labeler.paths import path_seed


class Loop:
    """llama-cpp-python's own class as it comes: its match of the earlier prompt's beginning stays on and spares it the prefix."""

    name = "loop"

    def __init__(self, load: Workload, counts: Counted, model: Path, n_threads: int) -> None:
        """Load the model into a context that just fits."""
        self._load, self._counts = load, counts
        self._llama = Llama(
            str(model),
            n_ctx=counts.longest_prompt + load.max_new_tokens,
            n_threads=n_threads,
            n_threads_batch=n_threads,
            verbose=False,
        )

    def warm_up(self) -> None:
        """One text; from then on its cache holds the prefix."""
        self._label(0)

    def turn(self, rows: range) -> Turn:
        """Label these texts, path by path."""
        began = time.perf_counter()
        n_written = sum(map(self._label, rows))
        return Turn(time.perf_counter() - began, n_written + sum(self._counts.cot[row] for row in rows))

    def close(self) -> None:
        """Free model and context."""
        self._llama.close()

    def _label(self, row: int) -> int:
        """Draw every path of one text; returns the tokens that were written."""
        load = self._load
        answers = (
            self._llama.create_completion(
                load.prompts[row],
                max_tokens=load.max_new_tokens,
                temperature=load.temperature,
                top_k=TOP_K,
                top_p=1.0,
                min_p=0.0,
                stop=[STOP],
                seed=path_seed(load.seed, load.texts[row].id, path),
            )
            for path in range(load.n_paths)
        )
        return sum(answer["usage"]["completion_tokens"] for answer in answers)
