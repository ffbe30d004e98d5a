import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss
from torch.nn import functional

from contract.errors import UserError
from contract.soft_label import SoftLabel
from trainer.losses import OBJECTIVES, cross_entropy, distribution_target, find_objective, majority_target, squared_error

LABELS = ["up", "flat", "down"]


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
        cross_entropy(logits, functional.one_hot(classes, 3).float()), functional.cross_entropy(logits, classes)
    )


def test_cross_entropy_on_distributions_is_torchs(logits, targets):
    torch.testing.assert_close(cross_entropy(logits, targets), functional.cross_entropy(logits, targets))


def test_squared_error_is_torchs_mean_squared_error_of_probabilities(logits, targets):
    torch.testing.assert_close(squared_error(logits, targets), functional.mse_loss(logits.softmax(-1), targets))


def test_squared_error_on_hard_labels_is_scikit_learns_brier_score_over_the_number_of_classes(logits):
    classes = np.array([0, 1, 2, 2, 1, 0, 0])
    expected = brier_score_loss(classes, logits.double().softmax(-1).numpy(), labels=[0, 1, 2], scale_by_half=False) / 3
    ours = squared_error(logits, functional.one_hot(torch.tensor(classes), 3).float())
    assert float(ours) == pytest.approx(expected, abs=1e-6)


def test_squared_error_is_zero_where_the_student_matches(targets):
    assert float(squared_error(targets.log(), targets)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("loss", [cross_entropy, squared_error])
def test_neither_loss_can_be_lowered_by_moving_away_from_a_match(loss, targets):
    at_match = targets.log().requires_grad_()
    loss(at_match, targets).backward()
    torch.testing.assert_close(at_match.grad, torch.zeros_like(at_match), atol=1e-6, rtol=0)


@pytest.mark.parametrize("loss", [cross_entropy, squared_error])
def test_adding_one_number_to_every_logit_changes_no_loss(loss, logits, targets):
    torch.testing.assert_close(loss(logits + 100, targets), loss(logits, targets), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("loss", [cross_entropy, squared_error])
def test_huge_logits_give_a_finite_loss(loss, targets):
    assert torch.isfinite(loss(torch.tensor([[1e4, -1e4, 0.0]]).expand(7, 3), targets))


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
    assert torch.isfinite(objective.loss(logits, targets))


def test_an_unknown_objective_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"^loss is 'mse'; allowed: cls, reg$"):
        find_objective("mse")
