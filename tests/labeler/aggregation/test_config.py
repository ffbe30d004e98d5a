"""Which settings of a derivation are refused, and the name that says what was done."""

import sys

import numpy as np
import pytest

from potstill.contract.errors import UserError
from potstill.labeler.aggregation.calibration import prior_shares
from potstill.labeler.aggregation.config import DEFAULTS, DeriveConfig, check_derive

LABELS = ["up", "down", "flat"]
PRIOR = {"up": 0.5, "flat": 0.3, "down": 0.2}


@pytest.mark.parametrize(
    ("config", "adaptive", "name"),
    [
        (DEFAULTS, False, "calibrated"),
        (DEFAULTS, True, "calibrated+posterior"),
        (DeriveConfig(method="majority"), True, "majority"),
        (DeriveConfig(weighting="agreement", smooth=10), False, "calibrated+agreement+smooth10"),
        (DeriveConfig(refine="on", smooth=4), False, "calibrated+smooth4+refined"),
        (DeriveConfig(refine="on", backbone="folder"), True, "calibrated+posterior+refined@folder"),
        (DeriveConfig(refine="off"), False, "calibrated"),
        (DeriveConfig(smooth=5, smooth_weight=0.3, backbone="folder"), False, "calibrated+smooth5x0.3@folder"),
        (DeriveConfig(method="matched", prior=PRIOR, smooth=3), True, "matched(up=0.5,flat=0.3,down=0.2)+posterior+smooth3"),
    ],
)
def test_the_name_says_everything_that_was_done(config, adaptive, name):
    assert config.name(adaptive=adaptive) == name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "best"}, "method is 'best'; allowed: calibrated, majority, votes, mean, matched, affine"),
        ({"weighting": "odd"}, "weighting is 'odd'; allowed: even, agreement"),
        ({"refine": "yes"}, "refine is 'yes'; allowed: auto, on, off"),
        ({"refine_gold": 9}, "refine gold is 9; it must be at least 10 gold texts, or 0 to ask none"),
        ({"refine_gold": -1}, "refine gold is -1; it must be at least 10 gold texts, or 0 to ask none"),
        (
            {"refine": "on", "method": "votes"},
            "method votes shows what the paths alone say, and is not refined; use calibrated",
        ),
        ({"refine": "on", "backbone": "nowhere"}, "'nowhere' is neither a file nor a known backbone"),
        ({"smooth": -1}, "smooth is -1; it must be a number of neighbours, or 0 for none"),
        ({"smooth_weight": 1.5}, "smooth weight is 1.5; it must be from 0 to 1"),
        ({"smooth_weight": float("nan")}, "smooth weight is nan; it must be from 0 to 1"),
        ({"prior": {"up": 0.5, "flat": 0.3, "bull": 0.2}}, "prior: 'bull' is not a label; the labels are up, down, flat"),
        ({"prior": {"up": 0.5, "down": 0.5}}, "prior: lacks 'flat'; state a share for each of up, down, flat"),
        ({"prior": {**PRIOR, "up": 0.0}}, "prior: up is 0; each share must be above 0 and below 1"),
        ({"prior": {**PRIOR, "up": float("nan")}}, "prior: up is nan; each share must be above 0 and below 1"),
        ({"prior": {**PRIOR, "up": 0.4}}, "prior: the shares of up, flat, down sum to 0.9; they must sum to 1"),
        ({"method": "mean", "prior": PRIOR}, "method mean uses no prior; leave the prior out, or use calibrated or matched"),
        (
            {"method": "matched"},
            "method matched needs the labels' shares; state them, for example: --prior up=0.33,down=0.33,flat=0.33",
        ),
        ({"smooth": 3, "backbone": "nowhere"}, "'nowhere' is neither a file nor a known backbone"),
    ],
)
def test_what_makes_no_sense_is_refused_with_one_line(settings, message):
    with pytest.raises(UserError) as caught:
        check_derive(DeriveConfig(**settings), LABELS)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_prior_is_read_in_the_labels_order_and_normalised():
    np.testing.assert_allclose(prior_shares(DeriveConfig(prior=PRIOR), LABELS), [0.5, 0.2, 0.3])
    thirds = prior_shares(DeriveConfig(prior={"up": 0.333, "down": 0.333, "flat": 0.333}), LABELS)
    check_derive(DeriveConfig(prior={"up": 0.333, "down": 0.333, "flat": 0.333}), LABELS)
    np.testing.assert_allclose(thirds, 1 / 3)
    np.testing.assert_allclose(prior_shares(DEFAULTS, LABELS), 1 / 3)


def test_smoothing_without_torch_fails_before_a_path_is_drawn(minilm, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "potstill.labeler.embeddings", raising=False)
    with pytest.raises(ModuleNotFoundError) as caught:
        check_derive(DeriveConfig(smooth=3), LABELS)
    assert caught.value.name == "torch"
