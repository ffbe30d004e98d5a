"""Which forms pass, what chance explains, and which of those that pass is taken."""

from __future__ import annotations

import msgspec
import pytest
from scipy.stats import binom
from support.tiny_checkpoint import FORM

from potstill.export.config import ExportConfig
from potstill.export.gate.criteria import LEVEL, ROUNDING, caveat, fastest, is_batch_invariant, max_chance_flips, refusal

CONFIG = ExportConfig()


def flipped(flips, n):
    return {"n": n, "flips": flips, "agreement": 1 - flips / n}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ""),
        (flipped(10, 1000), ""),
        (flipped(15, 1000), ""),
        (
            flipped(16, 1000),
            "16 of 1000 texts (1.60%) change their label; where each keeps it with 0.99 chance explains 15",
        ),
        (flipped(2, 64), ""),  # one flip more or less is chance
        (flipped(3, 64), "3 of 64 texts (4.69%) change their label; where each keeps it with 0.99 chance explains 2"),
        ({"macro_f1": 0.77, "macro_f1_drop": 0.03, "macro_f1_drop_low": 0.005}, ""),
        (
            {"macro_f1": 0.77, "macro_f1_drop": 0.03, "macro_f1_drop_low": 0.0051},
            "macro-F1 0.7700 is 0.0300 below float, and by at least 0.0051 whatever texts chance had drawn; allowed: 0.005",
        ),
        (
            {"macro_f1": float("nan"), "macro_f1_drop": float("nan"), "macro_f1_drop_low": float("nan")},
            "macro-F1 nan is nan below float, and by at least nan whatever texts chance had drawn; allowed: 0.005",
        ),
        ({"prob_change_max": 0.3}, ""),
        ({"prob_change_max": 0.31}, "a probability moves by 0.310; at most 0.3 is allowed"),
        (
            {"variant": "dynamic_int8"},
            "an answer depends on what shares its batch (0 of a probability); take it with --variant dynamic_int8",
        ),
        (
            {"padding_change_max": 1e-4},
            "an answer depends on what shares its batch (0.0001 of a probability); take it with --variant static_int8",
        ),
    ],
)
def test_a_form_passes_up_to_the_limit_and_fails_with_its_numbers_beyond(changes, expected):
    assert refusal(msgspec.structs.replace(FORM, **changes), CONFIG) == expected


def test_a_form_that_was_asked_for_may_depend_on_its_batch_but_is_never_called_invariant():
    form = msgspec.structs.replace(FORM, variant="dynamic_int8")
    assert refusal(form, ExportConfig(variant="dynamic_int8")) == ""
    assert is_batch_invariant(FORM) and not is_batch_invariant(form)


def test_the_last_bit_may_move_with_padding_but_not_beside_others_and_neither_is_a_reason_to_refuse():
    padding, beside = (msgspec.structs.replace(FORM, **{name: ROUNDING}) for name in ("padding_change_max", "batch_change_max"))
    assert refusal(padding, CONFIG) == refusal(beside, CONFIG) == ""
    assert is_batch_invariant(padding) and not is_batch_invariant(beside)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ""),
        (flipped(1, 64), "1 of 64 texts change their label, within what chance does on so few texts; more would tell (--pool)"),
        (
            {"macro_f1_drop": 0.01},
            "macro-F1 is 0.0100 below float, within what chance does on so few texts; more would tell (--pool)",
        ),
    ],
)
def test_a_form_that_passed_by_chance_s_leave_says_so(changes, expected):
    assert caveat(msgspec.structs.replace(FORM, **changes), CONFIG) == expected


@pytest.mark.parametrize("n", [1, 5, 64, 251, 512, 2048])
@pytest.mark.parametrize("rate", [0.001, 0.01, 0.02, 0.5])
def test_chance_does_more_in_at_most_one_of_twenty_cases_and_as_much_in_more(n, rate):
    most = max_chance_flips(n, rate)
    assert binom.sf(most, n, rate) <= LEVEL  # P(X > most)
    assert most == 0 or binom.sf(most - 1, n, rate) > LEVEL


def test_one_flip_of_a_few_texts_never_decides_and_where_none_is_allowed_none_is_explained():
    assert all(max_chance_flips(n, 0.01) >= 1 for n in range(6, 100))
    assert max_chance_flips(64, 0.0) == 0
    assert max_chance_flips(64, 1.0) == 64
    assert max_chance_flips(0, 0.01) == 0


def test_the_more_texts_the_smaller_the_share_that_chance_explains():
    shares = [max_chance_flips(n, 0.01) / n for n in (64, 256, 1024, 4096, 100_000)]
    assert shares == sorted(shares, reverse=True) and shares[-1] < 0.011


def forms(*rows):
    return [
        msgspec.structs.replace(FORM, variant=name, ms_p50=ms, bytes=size, problem="" if passed else "no")
        for name, ms, size, passed in rows
    ]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ([("float", 9, 90, True), ("static_int8", 3, 23, True), ("float_fused", 8, 90, True)], "static_int8"),
        ([("float", 9, 90, True), ("static_int8", 3, 23, False), ("float_fused", 7, 90, True)], "float_fused"),
        ([("float", 9, 90, True), ("static_int8", 3, 23, False), ("float_fused", 10, 90, False)], "float"),
        ([("float", 1.0, 90, True), ("static_int8", 1.14, 23, True)], "static_int8"),  # a tie: the smaller file
        ([("float", 1.0, 90, True), ("static_int8", 1.16, 23, True)], "float"),
        ([("a", 1.0, 90, True), ("b", 0.9, 90, True)], "b"),  # a tie of equal size: the faster one
    ],
)
def test_the_fastest_that_passed_is_taken_and_of_equally_fast_ones_the_smallest(table, expected):
    assert fastest(forms(*table)).variant == expected


def test_where_none_passed_none_is_taken():
    assert fastest(forms(("float", 1, 1, False))) is None
