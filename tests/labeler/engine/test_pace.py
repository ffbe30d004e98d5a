"""Threads are chosen again while a run goes on, on a machine that is only arithmetic."""

import pytest

from potstill.labeler.engine.pace import BETWEEN_TRIALS_S, Pace, thread_candidates

N_CORES = 8
DECODE_S = 0.2


def decode(pace: Pace, n_busy: int) -> float:
    """One decode beside busy programs: threads on a core of their own wait for those that share theirs. Returns tokens per second."""
    n_sharing = max(0, pace.n_threads + n_busy - N_CORES)
    speed = 100.0 * pace.n_threads * (0.4 if n_sharing else 1.0)
    waiting = pace.n_threads * DECODE_S * (0.4 if n_sharing else 0.99)
    pace.decoded(int(speed * DECODE_S), DECODE_S, waiting)
    return speed


def run(pace: Pace, n_busy: int, seconds: float) -> list[int]:
    """The numbers of threads of every decode."""
    used = []
    for _ in range(int(seconds / DECODE_S)):
        used.append(pace.n_threads)
        decode(pace, n_busy)
    return used


def test_threads_that_have_their_cores_are_never_tried_otherwise():
    assert set(run(Pace(thread_candidates(N_CORES), N_CORES), 0, 300)) == {N_CORES}


def test_beside_busy_programs_fewer_threads_are_settled_on_and_all_again_when_they_have_gone():
    pace = Pace(thread_candidates(N_CORES), N_CORES)
    beside = run(pace, 1, 200)
    assert beside[-1] == N_CORES - 1
    assert beside[-50:].count(N_CORES - 1) >= 40
    assert run(pace, 0, 100)[-1] == N_CORES


def test_a_number_that_was_measured_on_a_busy_machine_does_not_stay():
    assert run(Pace(thread_candidates(N_CORES), 2), 0, 300)[-1] == N_CORES


def test_a_trial_that_fails_costs_little():
    used = run(Pace([2, 1], 1), 7, 200)  # two threads are slower beside seven programs
    assert used[-1] == 1
    assert used.count(2) * DECODE_S <= 200 / BETWEEN_TRIALS_S * 1.2


def test_where_there_is_one_number_it_stays():
    assert set(run(Pace([4], 4), 8, 100)) == {4}


@pytest.mark.parametrize(("n_cores", "numbers"), [(1, [1]), (2, [2, 1]), (4, [4, 3, 2, 1]), (16, [16, 15, 12, 8, 4, 1])])
def test_candidates_go_from_all_cores_down_to_one(n_cores, numbers):
    assert thread_candidates(n_cores) == numbers
