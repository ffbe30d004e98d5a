"""A configuration that cannot draw a path never exists."""

from dataclasses import replace

import pytest

from potstill.contract.errors import UserError
from potstill.labeler.config import LabelConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_paths": 0}, "paths is 0; it must be at least 1"),
        ({"n_variants": -1}, "variants is -1; it must be at least 1"),
        ({"n_direct": 0}, "direct answers is 0; it must be at least 1"),
        ({"n_examples_per_label": 0}, "examples per label is 0; it must be at least 1"),
        ({"temperature": 0}, "temperature is 0; it must be above 0"),
        ({"temperature": float("nan")}, "temperature is nan; it must be above 0"),
        ({"bound": 0.5}, "the adaptive bound is 0.5; it must be above 0.5 and below 1"),
        ({"bound": float("nan")}, "the adaptive bound is nan; it must be above 0.5 and below 1"),
        ({"bound": 1.0}, "the adaptive bound is 1.0; it must be above 0.5 and below 1"),
        ({"uncertain": -0.1}, "uncertain is -0.1; it must be a share from 0 to 1"),
        ({"uncertain": float("nan")}, "uncertain is nan; it must be a share from 0 to 1"),
        ({"uncertain": 1.1}, "uncertain is 1.1; it must be a share from 0 to 1"),
        ({"mode": "loud"}, "mode is 'loud'; allowed: auto, cot, direct, cascade"),
        ({"template": "html"}, "template is 'html'; allowed: plain, chat"),
        ({"thoughts": "maybe"}, "thoughts is 'maybe'; allowed: auto, off, on"),
        ({"max_thought_tokens": 0}, "max thought tokens is 0; it must be at least 1"),
        *(
            (settings, "thoughts on needs template chat and a mode that reasons; use template chat with mode cot, or thoughts auto")
            for settings in ({"thoughts": "on"}, {"thoughts": "on", "template": "chat", "mode": "direct"})
        ),
        ({"examples": "best"}, "examples is 'best'; allowed: given, diverse, nearest"),
        (
            {"mode": "direct", "n_paths": 8, "n_variants": 4},
            "mode direct samples nothing, so 8 paths need 8 variants (found 4); "
            "raise the variants, lower the paths, or use mode cot",
        ),
        (
            {"template": "chat", "examples": "nearest"},
            "examples nearest needs template plain: in a conversation the worked examples come before all texts; "
            "use template plain, or examples diverse",
        ),
    ],
)
def test_settings_that_cannot_draw_a_path_are_refused_with_one_line(settings, message):
    for make in (lambda: LabelConfig(**settings), lambda: replace(LabelConfig(), **settings)):
        with pytest.raises(UserError) as caught:
            make()
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LabelConfig(), (0, 1, 8)),
        (LabelConfig(n_variants=3), (0, 3, 8)),
        (LabelConfig(mode="direct", n_paths=4), (4, 0, 4)),
        (LabelConfig(mode="direct", n_paths=4, n_variants=8), (8, 0, 4)),
        (LabelConfig(mode="cascade", n_direct=2, n_paths=6), (2, 1, 8)),
        (LabelConfig(mode="cascade", n_direct=2, n_paths=6, n_variants=3), (2, 3, 8)),
    ],
)
def test_the_mode_decides_the_variants_and_the_largest_number_of_paths(config, expected):
    assert (config.direct_variants, config.cot_variants, config.most_paths) == expected
