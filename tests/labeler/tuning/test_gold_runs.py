"""The time of a run's paths leaves out what is paid once."""

from types import SimpleNamespace

import pytest

from potstill.labeler.tuning.gold_runs import PathTiming, Stopwatch


@pytest.mark.parametrize(
    ("batches", "wanted"),
    [
        ([], PathTiming(0.0, 0)),
        ([(9.0, 10), (10.0, 30), (11.0, 50)], PathTiming(2.0, 40)),  # eight seconds of loading before the first paths
        ([(9.0, 10)], PathTiming(9.0, 10)),
        ([(9.0, 10), (10.0, 12)], PathTiming(10.0, 12)),  # hardly any came later
    ],
)
def test_the_clock_starts_with_the_first_paths_unless_those_were_most(monkeypatch, batches, wanted):
    now, told = [0.0], []
    monkeypatch.setattr("potstill.labeler.tuning.gold_runs.time.monotonic", lambda: now[0])
    watch = Stopwatch(told.append)
    for seconds, n_drawn in batches:
        now[0] = seconds
        watch(SimpleNamespace(n_drawn=n_drawn))
    assert watch.timed() == wanted
    assert [live.n_drawn for live in told] == [n for _, n in batches]


def test_sittings_add_up():
    assert PathTiming(1.0, 2) + PathTiming(3.0, 4) == PathTiming(4.0, 6)
