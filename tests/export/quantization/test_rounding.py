"""Int8 weights fit 16-bit sums on every CPU, and come closer in the product than rounded ones."""

import numpy as np
import pytest

from potstill.contract.system.machine import KERNEL_FLAGS
from potstill.export.quantization.rounding import (
    ARM_FLAGS,
    LIMIT,
    PAIR_LIMIT,
    VNNI_FLAGS,
    best_steps,
    has_int32_sums,
    round_compensated,
    round_nearest,
    safe_steps,
)

H, N, T = 161, 24, 4000  # more channels than one block of rows, and an odd number of them
LARGEST_ACTIVATION = 255


def some(seed=0):
    rng = np.random.default_rng(seed)
    together = rng.normal(size=(T, 12)) @ rng.normal(size=(12, H))  # channels that go together, as in an encoder
    activations = (together + 0.3 * rng.normal(size=(T, H))).astype(np.float32)
    return rng.normal(size=(H, N)).astype(np.float32), activations


def in_steps(weights, step):
    multiples = weights / step
    np.testing.assert_allclose(multiples, np.rint(multiples), atol=1e-2)
    return np.rint(multiples).astype(np.int64)


def worst_sums(multiples):
    """Over every even channel and the one after it: the sums of two products that a 16-bit register has to hold."""
    pairs = np.pad(multiples, ((0, len(multiples) % 2), (0, 0))).reshape(-1, 2, multiples.shape[1])
    return LARGEST_ACTIVATION * np.clip(pairs, 0, None).sum(axis=1), LARGEST_ACTIVATION * np.clip(pairs, None, 0).sum(axis=1)


ALIKE = np.repeat(np.linspace(-1, 1, H // 2 + 1), 2)[:H, None].astype(np.float32) * np.ones((1, N), np.float32)


@pytest.mark.parametrize("weights", [some()[0], ALIKE, np.ones((H, N), np.float32), -np.ones((H, N), np.float32)])
@pytest.mark.parametrize("of", [safe_steps, best_steps])
def test_two_products_side_by_side_fit_sixteen_bits_whatever_the_activations(weights, of):
    x, step = some()[1], of(weights)
    for found in (round_nearest(weights, step), round_compensated(weights, x.T @ x, step)):
        multiples = in_steps(found, step)
        high, low = worst_sums(multiples)
        assert np.abs(multiples).max() <= LIMIT
        assert high.max() <= np.iinfo(np.int16).max and low.min() >= np.iinfo(np.int16).min
    assert np.iinfo(np.int16).max >= PAIR_LIMIT * LARGEST_ACTIVATION


def test_safe_steps_move_no_weight_by_more_than_one_step():
    weights, _ = some()
    step = safe_steps(weights)
    assert (np.abs(round_nearest(weights, step) - weights) <= step + 1e-6).all()


def test_weights_lose_less_than_with_seven_bits_each():
    weights, _ = some()
    seven = np.abs(weights).max(axis=0) / 64
    lost, lost_seven = (
        np.square(w - weights).mean() for w in (round_nearest(weights, best_steps(weights)), np.rint(weights / seven) * seven)
    )
    assert lost < 0.6 * lost_seven


def test_the_product_is_closer_than_with_each_weight_rounded_to_its_nearest_step():
    weights, x = some()
    exact, step = x @ weights, best_steps(weights)
    lost, lost_nearest = (
        np.mean((x @ w - exact) ** 2) for w in (round_compensated(weights, x.T @ x, step), round_nearest(weights, step))
    )
    assert lost < 0.5 * lost_nearest


def test_channels_that_have_nothing_to_do_with_each_other_are_rounded_to_the_nearest_step():
    weights, _ = some()
    step = safe_steps(weights)
    np.testing.assert_allclose(
        round_compensated(weights, np.eye(H, dtype=np.float32), step), round_nearest(weights, step), atol=1e-5
    )


def test_the_order_in_which_activations_are_summed_tips_no_weight_over():
    weights, x = some()
    step, wide = best_steps(weights), x.astype(np.float64)
    turned = wide[::-1].copy()
    once, again = (round_compensated(weights, rows.T @ rows, step) for rows in (wide, turned))
    np.testing.assert_array_equal(once, again)


@pytest.mark.parametrize("gram", [np.zeros((H, H)), np.full((H, H), np.nan)])
def test_activations_that_say_nothing_leave_the_nearest_steps(gram):
    weights, _ = some()
    step = best_steps(weights)
    np.testing.assert_allclose(round_compensated(weights, gram.astype(np.float32), step), round_nearest(weights, step), atol=1e-5)


def test_a_column_of_zeros_and_a_dead_channel_stay_zero_and_finite():
    weights, x = some()
    weights[:, 3], x[:, 5] = 0, 0
    found = round_compensated(weights, x.T @ x, best_steps(weights))
    assert np.isfinite(found).all() and not found[:, 3].any()


@pytest.mark.parametrize(
    ("flags", "exact"),
    [
        (["avx2", "fma"], False),
        (["avx2", "avx512bw", "avx512f"], False),
        (["avx2", "avx512_vnni"], True),
        (["avx2", "avx_vnni"], True),
        (["asimd", "asimddp"], True),
        ([], False),
    ],
)
def test_full_range_needs_a_processor_that_adds_int8_products_in_32_bits(flags, exact):
    assert has_int32_sums(flags) == exact


def test_every_flag_that_decides_is_one_that_is_read():
    assert VNNI_FLAGS | ARM_FLAGS <= KERNEL_FLAGS
