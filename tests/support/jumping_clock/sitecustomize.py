"""Put on PYTHONPATH, it makes the wall clock jump: each look at it is a day before, or a day after, the one before."""

import itertools
import time

DAY_NS = 86_400 * 10**9
_real_ns = time.time_ns
_sides = itertools.cycle((-1, 1))


def time_ns():
    return _real_ns() + next(_sides) * DAY_NS


time.time_ns = time_ns
time.time = lambda: time_ns() / 1e9
