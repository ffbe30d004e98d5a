"""Replaying a bundle's golden texts: proof that this machine gives the probabilities that the exporting one gave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from potstill.contract.bundle import GOLDEN_FILE, Golden
from potstill.contract.errors import FormatError, UserError
from potstill.contract.system.cores import usable_cores
from potstill.contract.system.machine import Machine, difference
from potstill.serve.runtime.session import this_machine

T = TypeVar("T")


class Beside(Generic[T]):
    """A call that runs beside its caller from now on; its result is asked for later.

    A future of `concurrent.futures` would do the same, but importing those takes 5 ms, most of it for `logging`, and this
    stands between the start of a process and its first answer.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        """Start the work."""
        self._work = work
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="beside")
        self._thread.start()

    def result(self) -> T:
        """What the work returned, once it is done; raises what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _run(self) -> None:
        """The thread's life; no error is lost, each one is raised by :meth:`result`."""
        try:
            self._results.append(self._work())
        except BaseException as error:  # noqa: BLE001 - handed over, not swallowed
            self._error = error


if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLERANCE = 1e-3  # largest accepted change of a probability with the versions and kernels that made the bundle, or unknown ones
# With others: where a number lies between two steps of int8, last bits that round differently put it on the other one. Aarch64
# moved two MiniLMs in static int8 by 0.0025 and 0.0085 (benchmarks/replay_on_aarch64); kernels that saturate move one by several
# hundredths.
TOLERANCE_ELSEWHERE = 2e-2

Probs = Callable[[Sequence[str], Sequence[str] | None], "NDArray[np.float64]"]


def replay(bundle: Path, golden: list[Golden], probs: Probs, made: Machine | None = None) -> float:
    """Answer every golden text and return the largest change of a probability.

    Args:
        bundle: the folder, for the message.
        golden: at least one text with its probabilities in label order.
        probs: texts and their targets (or None) to float [B, C].
        made: the machine that gave the golden probabilities, if the bundle says so.
    Raises:
        FormatError: if the golden probabilities do not fit the model's labels.
        UserError: if a probability differs by more than `TOLERANCE`, or `TOLERANCE_ELSEWHERE` where versions or kernels are
            known to be others; it says which.
    """
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
    """What is known of why the probabilities differ."""
    if made is None:
        return "the bundle does not say what it was made with"
    return difference(made, here) or "versions and kernels are those that it was made with, so a file was exchanged for another"


def _answers(probs: Probs, golden: list[Golden]) -> list[NDArray[np.float64]]:
    """The probabilities of each text, float [1, C], in order. All cores work, as this stands before the first answer."""
    found = [np.empty(0)] * len(golden)
    longest_first = iter(sorted(range(len(golden)), key=lambda i: -len(golden[i].text)))  # else one core ends up alone with it

    def work() -> None:
        """Answer what no other thread has taken."""
        for i in longest_first:
            target = golden[i].target
            found[i] = probs([golden[i].text], None if target is None else [target])

    for worker in [Beside(work) for _ in range(min(usable_cores(), len(golden)))]:
        worker.result()
    return found
