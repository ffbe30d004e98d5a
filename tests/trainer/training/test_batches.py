"""A batch in parts of similar length has the lowest cost, and changes nothing else."""

import math
from itertools import combinations, pairwise

import pytest
import torch
from support.tiny_backbone import SHAPE
from transformers import BertConfig, BertForSequenceClassification

from potstill.trainer.training.batches import in_parts, like_lengths, logits_in_parts
from potstill.trainer.training.masking import TokenMasking
from potstill.trainer.training.pretrain import IGNORED, loss_in_parts

LENGTHS = [9, 3, 14, 4, 4, 15, 2, 8]


def cost(parts, lengths, part_cost):
    return sum(max(lengths[i] for i in part) * len(part) + part_cost for part in parts)


def every_cut(lengths):
    """All ways to cut the sorted texts into parts."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    for n in range(len(order)):
        for cuts in combinations(range(1, len(order)), n):
            edges = [0, *cuts, len(order)]
            yield [order[a:b] for a, b in pairwise(edges)]


@pytest.mark.parametrize("part_cost", [0, 1, 5, 20, 1000])
def test_no_other_cut_costs_less(part_cost):
    parts = like_lengths(LENGTHS, part_cost)
    assert sorted(i for part in parts for i in part) == list(range(len(LENGTHS)))
    least = min(cost(cut, LENGTHS, part_cost) for cut in every_cut(LENGTHS))
    assert cost(parts, LENGTHS, part_cost) == least


def test_the_more_a_part_costs_the_fewer_there_are():
    assert [len(like_lengths(LENGTHS, part_cost)) for part_cost in (0, 5, 1000, math.inf)] == [7, 3, 1, 1]
    assert like_lengths([5], 3) == [[0]]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**SHAPE, vocab_size=50, num_labels=3)).eval()


@pytest.fixture
def batch():
    ids = torch.randint(5, 50, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def test_logits_and_gradients_are_those_of_the_whole_batch_in_its_order(model, batch):
    weights = torch.randn(len(LENGTHS), 3, generator=torch.Generator().manual_seed(2))
    found = []
    for part_cost in (math.inf, 2):
        model.zero_grad()
        logits = logits_in_parts(model, batch, part_cost)
        (logits * weights).sum().backward()
        found.append((logits.detach(), [p.grad.clone() for p in model.parameters()]))
    (whole, gradients), (parts, others) = found
    assert torch.allclose(whole, parts, atol=1e-6)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(gradients, others, strict=True))


def test_a_part_has_no_padding_that_all_its_texts_share(batch):
    parts = list(in_parts(batch, 2))
    assert len(parts) > 1
    for rows, part in parts:
        assert part["attention_mask"].sum(dim=1).tolist() == [LENGTHS[i] for i in rows.tolist()]
        assert part["input_ids"].shape[1] == max(LENGTHS[i] for i in rows.tolist())


class Predictor(torch.nn.Module):
    """Predicts ids by a table."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(50, 50)

    def forward(self, input_ids, attention_mask, targets):
        return torch.nn.functional.cross_entropy(self.table(input_ids).transpose(1, 2), targets, ignore_index=IGNORED)


def test_masked_pretraining_has_the_loss_of_the_whole_batch_though_parts_have_different_numbers_of_masks(batch):
    hide = TokenMasking(mask_id=1, special_ids=(0,), vocab_size=50)
    ids, targets = hide(batch["input_ids"], batch["attention_mask"], torch.Generator().manual_seed(0))
    counts = (targets != IGNORED).sum(dim=1)
    assert counts.sum() > 0 and counts.min() == 0  # some part has nothing to predict
    inputs = {**batch, "input_ids": ids, "targets": targets}
    whole, parts = (loss_in_parts(Predictor(), inputs, part_cost) for part_cost in (math.inf, 0))
    assert torch.isfinite(parts) and torch.allclose(whole, parts)
