import numpy as np
import pytest
import torch
from support.toy_questions import a_questionnaire, answer_rows
from support.toy_task import QUICK
from torch.nn import functional

from potstill.contract.errors import UserError
from potstill.contract.questions.soft_answers import SoftAnswers
from potstill.trainer.config import TrainConfig
from potstill.trainer.data.answered import places_of, select_answers
from potstill.trainer.joint.losses import joint_goal, squared_earth_movers
from potstill.trainer.joint.targets import MAX_RARE, balance, joint_targets, output_ranges

CONFIG = TrainConfig(**QUICK)
TASK = a_questionnaire()
N_QUESTIONS = len(TASK.questions)


def one(name):
    """A task of one of the toy questions."""
    return a_questionnaire(questions=[TASK.find(name)], examples=[])


def targets_of(rows, task=TASK):
    return joint_targets(rows, task.questions, CONFIG)


def tensors(targets, seed=0):
    """(random logits, targets) for a loss."""
    n_outputs = len(targets[0]) - N_QUESTIONS
    logits = torch.tensor(np.random.default_rng(seed).normal(size=(len(targets), n_outputs)), dtype=torch.float32)
    return logits, torch.tensor(targets, dtype=torch.float32)


def test_all_questions_weigh_the_same_however_many_texts_answer_them():
    weights = targets_of(answer_rows(80, TASK, left_out=["asks", "topics"]))[:, -N_QUESTIONS:]
    np.testing.assert_allclose(weights.sum(axis=0), 80)


def test_a_question_of_very_few_answers_counts_up_to_a_bound():
    assert balance(10, 10) == 1 and balance(5, 10) == 2
    assert balance(1, 1000) == MAX_RARE


def test_a_question_that_a_text_does_not_answer_moves_nothing():
    rows = answer_rows(40, TASK, left_out=["asks"])
    targets = targets_of(rows)
    goal = joint_goal(TASK.questions, targets, CONFIG)
    logits, wanted = tensors(targets)
    logits.requires_grad_()
    goal.loss(logits, wanted).sum().backward()
    asks = output_ranges(TASK.questions)[1]
    gradient = logits.grad[:, asks].abs().sum(dim=1).numpy() > 0
    np.testing.assert_array_equal(np.flatnonzero(gradient), places_of(rows, TASK.find("asks")))


def test_one_choice_alone_is_cross_entropy_but_for_a_factor():
    task = one("move")
    targets = joint_targets(answer_rows(30, task), task.questions, TrainConfig(**QUICK, weighting="even"))
    logits = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    wanted = torch.tensor(targets[:, :3], dtype=torch.float32)
    found = joint_goal(task.questions, targets, CONFIG).loss(logits, torch.tensor(targets, dtype=torch.float32))
    plain = functional.cross_entropy(logits, wanted, reduction="none")
    np.testing.assert_allclose(found / plain, (found / plain).mean(), rtol=1e-5)


def test_tags_alone_are_binary_cross_entropy_but_for_a_factor():
    task = one("topics")
    targets = joint_targets(answer_rows(30, task), task.questions, TrainConfig(**QUICK, weighting="even"))
    logits = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    wanted = torch.tensor(targets[:, :3], dtype=torch.float32)
    found = joint_goal(task.questions, targets, CONFIG).loss(logits, torch.tensor(targets, dtype=torch.float32))
    plain = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(dim=1)
    np.testing.assert_allclose(found / plain, (found / plain).mean(), rtol=1e-5)


@pytest.mark.parametrize("name", ["move", "asks", "topics"])
def test_whoever_always_gives_the_mean_answer_pays_one(name):
    task = one(name)
    targets = targets_of(answer_rows(200, task), task)
    mean = targets[:, :-1].mean(axis=0)
    logits = np.log(mean) - np.log1p(-mean) if name == "topics" else np.log(mean)
    goal = joint_goal(task.questions, targets, CONFIG)
    assert goal.held_out_loss(np.tile(logits, (200, 1)), targets) == pytest.approx(1, abs=1e-4)


def test_the_held_out_loss_is_the_mean_over_the_questions():
    rows = answer_rows(50, TASK)
    logits = np.random.default_rng(1).normal(size=(50, len(TASK.label_names)))
    whole = joint_goal(TASK.questions, targets_of(rows), CONFIG).held_out_loss(logits, targets_of(rows))
    alone = []
    for question, outputs in zip(TASK.questions, output_ranges(TASK.questions), strict=True):
        own = joint_targets(rows, [question], CONFIG)
        alone.append(joint_goal([question], own, CONFIG).held_out_loss(logits[:, outputs], own))
    assert whole == pytest.approx(np.mean(alone))


def test_the_earth_movers_distance_of_two_levels_is_the_squared_difference():
    logits = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    wanted = torch.softmax(torch.randn(20, 2, generator=torch.Generator().manual_seed(1)), dim=1)
    torch.testing.assert_close(squared_earth_movers(logits, wanted), (torch.softmax(logits, dim=1)[:, 0] - wanted[:, 0]).square())


def test_a_level_further_off_costs_more():
    said = torch.tensor([[9.0, 0, 0, 0]]).repeat(4, 1)
    costs = squared_earth_movers(said, torch.eye(4))
    assert (costs[1:] > costs[:-1]).all()


def silent(row, name, **changes):
    """The row with another answer to a question."""
    answer = row.answers[name]
    fields = {field: getattr(answer, field) for field in answer.__struct_fields__}
    answers = {**row.answers, name: type(answer)(**fields | changes)}
    values = {field: getattr(row, field) for field in row.__struct_fields__}
    return SoftAnswers(**values | {"answers": answers})


def test_an_answer_that_paths_disagree_about_is_left_out_of_training_and_stays_held_out():
    rows = [silent(row, "move", agreement=0.5) if i % 2 else row for i, row in enumerate(answer_rows(200, TASK))]
    found = select_answers("rows.jsonl", rows, TASK.questions, 0.3, 0.6)
    move, asks = TASK.find("move"), TASK.find("asks")
    assert len(places_of(found.training, move)) + found.n_disagreed["move"] == len(places_of(found.training, asks))
    assert found.n_disagreed["move"] > 0
    assert len(places_of(found.validation, move)) == len(found.validation)


def test_an_answer_that_no_path_gave_is_none_on_both_sides():
    unread = {"agreement": 0.0, "votes": {"up": 0, "flat": 0, "down": 0}}
    rows = [silent(row, "move", **unread) if i % 2 else row for i, row in enumerate(answer_rows(200, TASK))]
    found = select_answers("rows.jsonl", rows, TASK.questions, 0.3, 0.0)
    n = sum(len(places_of(side, TASK.find("move"))) for side in (found.training, found.validation))
    assert n == 100 and found.n_unread["move"] > 0


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (
            {"agreement": 0.25},
            "rows.jsonl: none of 38 training texts has an answer to move with an agreement of at least 0.5 (the highest agreement is "
            "0.25); label more texts, lower the minimum agreement, or leave the question out of the task",
        ),
        (
            {"votes": {"up": 8, "flat": 0, "down": 0}},
            "rows.jsonl: all 38 kept answers to move are the same, but a student needs at least two different ones; check the labels, "
            "add texts of the other kinds, or lower the minimum agreement",
        ),
    ],
)
def test_a_question_that_nothing_can_be_learned_about_is_refused(changed, problem):
    rows = [silent(row, "move", **changed) for row in answer_rows(60, TASK)]
    with pytest.raises(UserError) as caught:
        select_answers("rows.jsonl", rows, TASK.questions, 0.3, 0.5)
    assert str(caught.value) == problem
