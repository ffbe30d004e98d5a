from __future__ import annotations

import threading

import msgspec
import numpy as np
import pytest

from potstill.contract.bundle import Golden
from potstill.contract.errors import FormatError, UserError
from potstill.contract.system.machine import KERNEL_FLAGS, difference
from potstill.serve.runtime import golden
from potstill.serve.runtime.golden import BackgroundCall, replay
from potstill.serve.runtime.session import this_machine

TEXTS = ["b", "a much longer text", "ccc", "dd", "a text"]
ROWS = [Golden(text=text, probs=[len(text) / 100, 1 - len(text) / 100]) for text in TEXTS]


def by_length(texts, targets):
    return np.array([[len(text) / 100, 1 - len(text) / 100] for text in texts])


def test_each_text_is_compared_with_its_own_probabilities_whatever_thread_answered_it(tmp_path):
    assert replay(tmp_path, ROWS, by_length) == 0
    assert replay(tmp_path, ROWS[:1], by_length) == 0


def test_the_longest_text_is_answered_first_so_that_no_core_ends_up_alone_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(golden, "usable_cores", lambda: 1)
    seen = []
    replay(tmp_path, ROWS, lambda texts, targets: (seen.extend(texts), by_length(texts, targets))[1])
    assert seen == ["a much longer text", "a text", "ccc", "dd", "b"]


def test_all_usable_cores_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(golden, "usable_cores", lambda: 3)
    together = threading.Barrier(3, timeout=10)

    def meet(texts, targets):
        together.wait()  # passes only if three threads answer at once
        return by_length(texts, targets)

    assert replay(tmp_path, [*ROWS, ROWS[0]], meet) == 0


ABSENT = min(KERNEL_FLAGS - set(this_machine().flags))  # no CPU has the flags of all architectures
MOVED = [msgspec.structs.replace(ROWS[0], probs=[0.5, 0.5])]


def refusal(tmp_path, made):
    with pytest.raises(UserError) as caught:
        replay(tmp_path, MOVED, by_length, made)
    return str(caught.value).split("; ", 1)[1].removesuffix("; export the bundle again on a machine like this one")


def test_a_drift_says_which_kernels_and_versions_differ(tmp_path):
    here = this_machine()
    made = msgspec.structs.replace(here, cpu="Another", flags=[ABSENT], tokenizers="0.1")
    assert refusal(tmp_path, made) == difference(made, here)
    assert f"without {ABSENT}" in difference(made, here) and "was made with 0.1" in difference(made, here)


def test_other_kernels_may_move_a_probability_further_than_the_same_ones(tmp_path):
    moved = [msgspec.structs.replace(ROWS[0], probs=[ROWS[0].probs[0] + 0.005, ROWS[0].probs[1] - 0.005])]
    other = msgspec.structs.replace(this_machine(), flags=[ABSENT])
    assert replay(tmp_path, moved, by_length, other) == pytest.approx(0.005)
    for made in (this_machine(), None):
        with pytest.raises(UserError, match=r"moves a probability by 0\.005, at most 0\.001 is allowed"):
            replay(tmp_path, moved, by_length, made)


def test_a_drift_on_the_same_machine_or_of_an_unknown_one_says_so(tmp_path):
    assert refusal(tmp_path, None) == "the bundle does not record what it was made with"
    same = "versions and kernels are the same, so a file of the bundle was replaced"
    assert refusal(tmp_path, this_machine()) == same


def test_a_golden_text_that_cannot_be_answered_stops_the_start(tmp_path):
    def refuse(texts, targets):
        raise UserError("a target has 2000 characters")

    with pytest.raises(UserError, match="^a target has 2000 characters$"):
        replay(tmp_path, ROWS, refuse)


def test_a_row_of_another_width_is_named_by_its_line(tmp_path):
    rows = [*ROWS[:2], Golden(text="x", probs=[0.2, 0.3, 0.5])]
    with pytest.raises(FormatError, match=r"golden\.jsonl: line 3: has 3 probabilities; the model gives 2$"):
        replay(tmp_path, rows, by_length)


def test_the_work_goes_on_while_its_caller_does_and_its_result_is_there_as_often_as_asked():
    release = threading.Event()
    started = threading.Event()

    def work() -> str:
        started.set()
        assert release.wait(10)
        return "done"

    call = BackgroundCall(work)
    assert started.wait(10)
    release.set()
    assert (call.result(), call.result()) == ("done", "done")


@pytest.mark.parametrize("error", [UserError("one line"), KeyError("a bug"), SystemExit(3)], ids=repr)
def test_what_the_work_raises_is_raised_where_the_result_is_asked_for(error):
    def work() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        BackgroundCall(work).result()
    assert caught.value is error
