"""Replay a bundle's golden texts: the check that this machine computes the probabilities that the exporting machine did."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from potstill.contract.bundle import GOLDEN_FILE, Golden
from potstill.contract.errors import FormatError, UserError
from potstill.contract.system.machine import Machine, difference, usable_cores
from potstill.contract.system.progress import tell_progress
from potstill.serve.runtime.session import this_machine

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLERANCE = 1e-3  # largest accepted change of a probability with the same versions and kernels, or where they are not recorded
# With other versions or kernels, a number halfway between two int8 steps may round to the other step. On aarch64 two MiniLMs in
# static int8 moved by 0.0025 and 0.0085 (benchmarks/replay_on_aarch64); kernels that saturate move one by several hundredths.
TOLERANCE_ELSEWHERE = 2e-2

T = TypeVar("T")
Probs = Callable[[Sequence[str], Sequence[str] | None], "NDArray[np.float64]"]


def replay(bundle: Path, golden: list[Golden], probs: Probs, made: Machine | None = None) -> float:
    """Answer every golden text and return the largest change of a probability.

    Args:
        bundle: the folder, for the error message.
        golden: at least one text with its probabilities in label order.
        probs: maps texts and their targets (or None) to float [B, C].
        made: the machine that computed the golden probabilities, if the bundle records it.
    Raises:
        FormatError: if the golden probabilities do not match the model's number of labels.
        UserError: if a probability changes by more than `TOLERANCE`, or by more than `TOLERANCE_ELSEWHERE` where versions or
            kernels are known to differ; the message names them.
    """
    tell_progress(f"replay {len(golden)} golden texts")
    found = np.concatenate(_answers(probs, golden))  # [N, C]
    for number, row in enumerate(golden, 1):
        if len(row.probs) != found.shape[1]:
            raise FormatError(
                bundle / GOLDEN_FILE, f"line {number}", f"has {len(row.probs)} probabilities; the model gives {found.shape[1]}"
            )
    change = float(np.abs(found - np.array([row.probs for row in golden])).max())
    if change <= TOLERANCE:
        return change
    here = this_machine()
    most = TOLERANCE if made is None or not difference(made, here) else TOLERANCE_ELSEWHERE
    if not change <= most:  # this way round, NaN is refused too
        where = f"onnxruntime {here.onnxruntime} on {here.cpu}"
        raise UserError(
            f"{bundle}: the golden texts drifted: {where} moves a probability by {change:.4g}, at most {most:g} is allowed; "
            f"{_cause(made, here)}; export the bundle again on a machine like this one"
        )
    return change


def _cause(made: Machine | None, here: Machine) -> str:
    """Say what is known about the cause of a drift."""
    if made is None:
        return "the bundle does not record what it was made with"
    return difference(made, here) or "versions and kernels are the same, so a file of the bundle was replaced"


def _answers(probs: Probs, golden: list[Golden]) -> list[NDArray[np.float64]]:
    """The probabilities of each text, float [1, C], in order; on all cores, since the first answer waits for this."""
    found = [np.empty(0)] * len(golden)
    longest_first = iter(sorted(range(len(golden)), key=lambda i: -len(golden[i].text)))  # else one core ends up alone with it

    def work() -> None:
        """Answer texts until none is left."""
        for i in longest_first:
            target = golden[i].target
            found[i] = probs([golden[i].text], None if target is None else [target])

    for call in [BackgroundCall(work) for _ in range(min(usable_cores(), len(golden)))]:
        call.result()
    return found


class BackgroundCall(Generic[T]):
    """A function call in a thread of its own; the caller waits for its result when it needs it.

    A future of `concurrent.futures` does the same, but importing it takes 5 ms, most of them for `logging`, and every process
    would spend them before its first answer.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        """Start the call."""
        self._work = work
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="background-call")
        self._thread.start()

    def result(self) -> T:
        """Wait for the call to end and return its result, or raise its error."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _run(self) -> None:
        """Run in the thread; an error is kept for :meth:`result`."""
        try:
            self._results.append(self._work())
        except BaseException as error:  # noqa: BLE001 - handed over, not swallowed
            self._error = error
