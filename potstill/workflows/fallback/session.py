"""A teacher that answers single texts with calibrated probabilities, as they come.

A labelling run removes each prompt's preference for single labels over all its texts. Here texts come one by one, so the preference
is measured once, on a pool of known texts, and the same correction is added to every later answer.

Axes: P paths, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.system.machine import usable_cores
from potstill.contract.task import Task
from potstill.contract.texts import Text
from potstill.labeler.aggregation.calibration import batch_calibrated, sharpened
from potstill.labeler.aggregation.path_table import label_logprobs
from potstill.labeler.aggregation.soft_labels import SHARPNESS
from potstill.labeler.config import LabelConfig, LocalConfig, ServerConfig
from potstill.labeler.prompts.variants import PromptVariant, prompt_variants
from potstill.labeler.teacher import DECIDING, PathRequest, Teacher, TooLong
from potstill.labeler.teachers.opening import open_local
from potstill.labeler.teachers.remote import open_remote
from potstill.workflows.fallback.config import FallbackConfig

AT_ONCE = 4  # texts that a model on this machine reads together: more of them make the first one wait longer
SERVER_TIMEOUT_S, SERVER_TRIES = 20.0, 2  # a server is given up sooner than by a labelling run, as somebody waits

NumberedProbs = tuple[int, NDArray[np.float64] | None]  # (number of a text, its probabilities; None: too long)


class TeacherSession:
    """An open teacher with its prompts and its correction. One thread at a time may ask a model on this machine."""

    def __init__(self, teacher: Teacher, task: Task, n_paths: int) -> None:
        """Make the prompts; :meth:`calibrate` before asking. Args: teacher, to be closed by :meth:`close`; task; prompts."""
        self._teacher, self._task = teacher, task
        self._config = LabelConfig(mode="direct", n_paths=n_paths, n_variants=n_paths)
        self._variants = prompt_variants(task, self._config, teacher.identity)
        self._words = _word_labels(task, first_only=teacher.identity.api in DECIDING)
        self._shifts = np.zeros((len(self._variants), len(task.labels)))  # nats, added to the sharpened log-probabilities

    @classmethod
    def open(cls, config: FallbackConfig, task: Task, concurrency: int, tell: Callable[[str], None]) -> TeacherSession:
        """Load the teacher, or connect to it.

        Args:
            config: which teacher.
            task: what it decides.
            concurrency: requests at a server at once.
            tell: called with a message for the user before a slow step.
        Raises:
            UserError: if there is no such teacher, it does not fit into memory, or its server does not answer.
            FormatError: if the file is not a complete GGUF.
        """
        if config.is_address:
            server = ServerConfig(concurrency, SERVER_TIMEOUT_S, n_tries=SERVER_TRIES)
            teacher: Teacher = open_remote(config.name, model=config.model, config=server, api=config.api, tell=tell)
        else:
            if config.model is not None or config.api != "auto":
                raise UserError(f"the model's id and the API apply to a server only; {config.name!r} runs on this machine")
            # All is stated, so nothing has to be measured before the first answer.
            stated = LocalConfig(config.threads or usable_cores(), 512, n_live_paths=AT_ONCE, flash_attention=True)
            teacher = open_local(config.name, config=stated, tell=tell)
        try:
            return cls(teacher, task, config.paths)
        except BaseException:
            teacher.close()
            raise

    @property
    def name(self) -> str:
        """Name of the model."""
        return self._teacher.identity.name

    def close(self) -> None:
        """Close the teacher."""
        self._teacher.close()

    def calibrate(self, pool: Sequence[Text], prior: Sequence[float] | None) -> None:
        """Measure the preference for single labels on texts like those to come, and correct it from now on.

        A model on this machine reads a text of the greatest visible length first, so that later texts find a context of their size.

        Args:
            pool: at least one text; those that are too long are left out.
            prior: share of each label among them, [C], above 0; None means even.
        Raises:
            UserError: if the teacher fails, or can answer no text.
        """
        longest = "word " * (self._task.input.max_chars // 5 + 1)
        target = pool[0].target
        filler = [Text(longest, target=target), *[pool[0]] * (AT_ONCE - 1)]
        for variant in self._variants:
            if not self._teacher.identity.api:  # a model on this machine
                list(self._paths(variant, filler))
            found = [row for _, row in self._paths(variant, pool) if row is not None and np.isfinite(row).all()]
            if not found:
                raise UserError(
                    f"the teacher can answer none of {len(pool)} texts to be calibrated on: they do not fit into its context, for "
                    "which input.max_chars is there, or it gives no label a probability"
                )
            evidence = np.stack(found)
            wanted = None if prior is None else np.asarray(prior, np.float64)
            corrected = batch_calibrated(evidence, wanted)
            self._shifts[variant.number] = (corrected - evidence)[0]  # the same for each row, but for a constant

    @property
    def correction(self) -> list[list[float]]:
        """What :meth:`calibrate` has found, for :meth:`correct_with`: nats, a row for each prompt."""
        found: list[list[float]] = self._shifts.tolist()
        return found

    def correct_with(self, correction: list[list[float]]) -> None:
        """Take the correction of an earlier session of the same teacher and task; raises ValueError if it does not fit."""
        found = np.array(correction, np.float64)
        if found.shape != self._shifts.shape:
            raise ValueError(f"a correction of shape {found.shape}; this teacher needs {self._shifts.shape}")
        self._shifts = found

    def answers(self, texts: Sequence[Text]) -> Iterator[NumberedProbs]:
        """Probabilities of each text, float64 [C] in the task's order, as soon as all its paths are complete.

        Raises:
            UserError: if the teacher fails; what was yielded before holds.
        """
        sums = np.zeros((len(texts), len(self._task.labels)))
        left = [len(self._variants)] * len(texts)
        for variant in self._variants:
            for index, logprobs in self._paths(variant, texts):
                if logprobs is None:
                    if left[index] > 0:
                        left[index] = -1
                        yield index, None
                    continue
                sums[index] += np.exp(sharpened((logprobs + self._shifts[variant.number])[None], 1.0))[0]
                left[index] -= 1
                if left[index] == 0:
                    yield index, sums[index] / sums[index].sum()

    def _paths(self, variant: PromptVariant, texts: Sequence[Text]) -> Iterator[NumberedProbs]:
        """(number of a text, its sharpened log-probabilities float64 [C], None if it is too long), as the teacher gives them."""
        requests = [PathRequest(str(i), variant.prompt(text), variant.paths) for i, text in enumerate(texts)]
        for path in self._teacher.answer(variant.prefix, variant.number, requests, variant.spec, self._config.seed):
            if isinstance(path, TooLong):
                yield int(path.text_id), None
                continue
            words = np.array([path.word_logprobs], dtype=np.float64)
            by_label = label_logprobs(words, self._words, len(self._task.labels))
            yield int(path.text_id), sharpened(by_label, SHARPNESS["direct"])[0]


def _word_labels(task: Task, *, first_only: bool) -> list[int]:
    """Label index of each label word, in the order of a path's log-probabilities. Args: first_only, for a decision server."""
    return [i for i, label in enumerate(task.labels) for _ in (label.spellings[:1] if first_only else label.spellings)]
