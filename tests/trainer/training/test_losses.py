import msgspec
import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss
from torch.nn import functional

from potstill.contract.errors import UserError
from potstill.contract.soft_label import SoftLabel
from potstill.trainer.data.targets import certainty, distribution_target, majority_target, smoothed
from potstill.trainer.training.losses import OBJECTIVES, cross_entropy, find_objective, softened_divergence, squared_error

LABELS = ["up", "flat", "down"]
LOSSES = [cross_entropy, squared_error, softened_divergence]


def soft_label(probs, votes):
    return SoftLabel(
        id="1",
        text="t",
        probs=dict(zip(LABELS, probs)),
        votes=dict(zip(LABELS, votes)),
        agreement=max(votes) / 8,
        n_paths=8,
        entropy=0.0,
        label_mass=1.0,
        method="votes",
        teacher_digest="t",
        task_digest="k",
    )


@pytest.fixture
def logits():
    return torch.randn(7, 3, generator=torch.Generator().manual_seed(0)) * 3


@pytest.fixture
def targets():
    return torch.softmax(torch.randn(7, 3, generator=torch.Generator().manual_seed(1)), dim=-1)


def test_cross_entropy_on_one_hot_targets_is_torchs_on_classes(logits):
    classes = torch.tensor([0, 1, 2, 2, 1, 0, 0])
    torch.testing.assert_close(
        cross_entropy(logits, functional.one_hot(classes, 3).float()).mean(), functional.cross_entropy(logits, classes)
    )


def test_cross_entropy_on_distributions_is_torchs(logits, targets):
    torch.testing.assert_close(cross_entropy(logits, targets).mean(), functional.cross_entropy(logits, targets))


def test_squared_error_is_torchs_mean_squared_error_of_probabilities(logits, targets):
    torch.testing.assert_close(squared_error(logits, targets).mean(), functional.mse_loss(logits.softmax(-1), targets))


def test_squared_error_on_hard_labels_is_scikit_learns_brier_score_over_the_number_of_classes(logits):
    classes = np.array([0, 1, 2, 2, 1, 0, 0])
    expected = brier_score_loss(classes, logits.double().softmax(-1).numpy(), labels=[0, 1, 2], scale_by_half=False) / 3
    ours = squared_error(logits, functional.one_hot(torch.tensor(classes), 3).float()).mean()
    assert float(ours) == pytest.approx(expected, abs=1e-6)


def test_squared_error_is_zero_where_the_student_matches(targets):
    assert float(squared_error(targets.log(), targets).max()) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_no_loss_can_be_lowered_by_moving_away_from_a_match(loss, targets):
    at_match = targets.log().requires_grad_()
    loss(at_match, targets, 3.0).sum().backward()
    torch.testing.assert_close(at_match.grad, torch.zeros_like(at_match), atol=1e-6, rtol=0)


@pytest.mark.parametrize("loss", LOSSES)
def test_adding_one_number_to_every_logit_changes_no_loss(loss, logits, targets):
    torch.testing.assert_close(loss(logits + 100, targets, 3.0), loss(logits, targets, 3.0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_huge_logits_give_a_finite_loss(loss, targets):
    assert torch.isfinite(loss(torch.tensor([[1e4, -1e4, 0.0]]).expand(7, 3), targets, 3.0)).all()


def test_cls_ignores_everything_but_the_majority_label():
    split, spread = soft_label([0.5, 0.5, 0.0], [5, 3, 0]), soft_label([0.4, 0.3, 0.3], [3, 2, 2])
    assert majority_target(split, LABELS) == majority_target(spread, LABELS) == [1.0, 0.0, 0.0]


def test_targets_follow_the_order_of_the_task_and_not_of_the_file():
    row = soft_label([0.5, 0.3, 0.2], [5, 2, 1])
    assert distribution_target(row, ["down", "up", "flat"]) == [0.2, 0.5, 0.3]
    assert majority_target(row, ["down", "up", "flat"]) == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_takes_a_soft_label_to_a_loss(name, logits):
    objective = find_objective(name)
    targets = torch.tensor([objective.target(soft_label([0.5, 0.3, 0.2], [5, 2, 1]), LABELS)]).expand(7, 3)
    loss = objective.loss(logits, targets, 2.0)
    assert loss.shape == (7,) and torch.isfinite(loss).all()


def test_an_unknown_objective_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"^loss is 'mse'; allowed: cls, reg, soft_ce, kl$"):
        find_objective("mse")


def test_the_divergence_is_torchs_on_flattened_distributions_times_the_squared_temperature(logits, targets):
    flat = torch.softmax(targets.log() / 3, dim=-1)
    expected = 9 * functional.kl_div(functional.log_softmax(logits / 3, dim=-1), flat, reduction="none").sum(dim=-1)
    torch.testing.assert_close(softened_divergence(logits, targets, 3.0), expected)


def test_at_temperature_one_the_divergence_has_the_gradients_of_cross_entropy(logits, targets):
    gradients = []
    for loss in (softened_divergence, cross_entropy):
        at = logits.clone().requires_grad_()
        loss(at, targets, 1.0).sum().backward()
        gradients.append(at.grad)
    torch.testing.assert_close(*gradients)


def test_a_label_that_cannot_be_leaves_the_divergence_finite(logits):
    assert torch.isfinite(softened_divergence(logits, functional.one_hot(torch.zeros(7, dtype=torch.long), 3).float(), 2.0)).all()


def test_smoothing_spreads_its_share_evenly():
    assert smoothed([1.0, 0.0, 0.0], 0.3) == pytest.approx([0.8, 0.1, 0.1])
    assert smoothed([0.5, 0.3, 0.2], 0.0) == [0.5, 0.3, 0.2]


@pytest.mark.parametrize(("entropy", "expected"), [(0.0, 1.0), (np.log(3), 0.0), (np.log(3) / 4, 0.75), (1.2, 0.0)])
def test_a_certain_soft_label_counts_fully_and_an_even_one_not_at_all(entropy, expected):
    row = msgspec.structs.replace(soft_label([0.5, 0.3, 0.2], [5, 2, 1]), entropy=entropy)
    assert certainty(row, 3) == pytest.approx(expected)
