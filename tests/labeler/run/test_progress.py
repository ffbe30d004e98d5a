"""What a run shows while it goes on is what a recount of its paths gives."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.teachers.table_teacher import SETTINGS

from potstill.labeler.aggregation.calibration import batch_calibrated
from potstill.labeler.aggregation.path_table import UNREADABLE_MASS
from potstill.labeler.run import progress
from potstill.labeler.run.progress import RunProgress
from potstill.labeler.teacher import TeacherPath

GOLD = {"0": "up", "1": "down", "9": "up"}  # text 9 never comes
LOGPROBS = st.lists(st.floats(-6, -0.01), min_size=2, max_size=2)
PATHS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1), LOGPROBS), max_size=60)


def collected(drawn, n_found: int = 0) -> RunProgress:
    made = RunProgress(SETTINGS, GOLD, 6)
    for i, (text, variant, logprobs) in enumerate(drawn):
        path = TeacherPath(str(text), i, variant, 0, "r", tuple(logprobs), 1, 1)
        (made.found if i < n_found else made.add)(path)
    return made


@given(PATHS)
def test_a_snapshot_equals_a_recount(drawn):
    now = collected(drawn).snapshot()
    if not drawn:
        assert (now.paths, now.shares, now.agreement, now.accuracy, now.n_gold) == (0, {}, None, None, 0)
        return
    probs: dict[int, np.ndarray] = {}
    for variant in {v for _, v, _ in drawn}:
        rows = [i for i, (_, v, _) in enumerate(drawn) if v == variant]
        raw = np.array([drawn[i][2] for i in rows])
        logs = raw - np.log(np.exp(raw).sum(axis=1, keepdims=True))
        for i, row in zip(rows, batch_calibrated(logs) if len(rows) >= progress._MIN_TO_CALIBRATE else logs, strict=True):
            probs[i] = np.exp(row)
    favourites = {i: int(row.argmax()) for i, row in probs.items()}
    by_text = {text: [i for i, (t, _, _) in enumerate(drawn) if t == text] for text in {t for t, _, _ in drawn}}
    counts = Counter(favourites.values())
    assert now.shares == pytest.approx({"up": counts[0] / len(drawn), "down": counts[1] / len(drawn)})
    several = [max(Counter(favourites[i] for i in rows).values()) / len(rows) for rows in by_text.values() if len(rows) > 1]
    assert now.agreement == (pytest.approx(np.mean(several)) if several else None)
    assert now.unreadable == pytest.approx(np.mean([sum(map(math.exp, row)) < UNREADABLE_MASS for _, _, row in drawn]))
    judged = {t: np.mean([probs[i] for i in by_text[int(t)]], axis=0) for t in GOLD if int(t) in by_text}
    assert now.n_gold == len(judged)
    if judged and all(abs(row[0] - row[1]) > 1e-9 for row in judged.values()):
        right = [("up", "down")[int(row.argmax())] == GOLD[t] for t, row in judged.items()]
        assert now.accuracy == pytest.approx(np.mean(right))
    assert (now.paths, now.texts_per_s is None) == (len(drawn), not drawn)


def test_speed_and_time_left_count_what_this_process_drew(monkeypatch):
    clock = iter([100.0, 104.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    made = collected([(i % 6, 0, [-1.0, -2.0]) for i in range(18)], n_found=10)
    made.total = 24
    now = made.snapshot()
    assert (now.paths, now.of, now.seconds) == (18, 24, 4.0)
    assert now.texts_per_s == pytest.approx(8 / 4 / (24 / 6))
    assert now.seconds_left == pytest.approx(6 / (8 / 4))


def test_before_the_first_path_nothing_is_claimed():
    now = collected([(0, 0, [-1.0, -2.0])], n_found=1).snapshot()
    assert (now.texts_per_s, now.seconds_left, now.unreadable) == (None, None, 0.0)
