from __future__ import annotations

import torch

from potstill.networks.static import Bag, StaticConfig, StaticForSequenceClassification

NUMBERS = [[0.0, 0.0], [1.0, -4.0], [3.0, 2.0], [-2.0, 6.0]]  # by token


def a_bag() -> Bag:
    bag = Bag(StaticConfig(vocab_size=4, hidden_size=2))
    with torch.no_grad():
        bag.vectors.weight.copy_(torch.tensor(NUMBERS))
        bag.log_weights.weight.copy_(torch.log(torch.tensor([[1.0], [1.0], [3.0], [1.0]])))
    return bag


def test_a_text_is_the_weighted_mean_of_its_tokens_and_the_largest_and_least_of_each_number():
    found = a_bag()(torch.tensor([[1, 2]]), torch.ones(1, 2))
    torch.testing.assert_close(found, torch.tensor([[(1 + 3 * 3) / 4, (-4 + 3 * 2) / 4, 3.0, 2.0, 1.0, -4.0]]))


def test_tokens_that_are_masked_do_not_count_and_none_give_zeros():
    bag = a_bag()
    alone = bag(torch.tensor([[1, 2]]), torch.ones(1, 2))
    padded = bag(torch.tensor([[1, 2, 3, 0], [3, 3, 3, 3]]), torch.tensor([[1.0, 1, 0, 0], [0, 0, 0, 0]]))
    assert torch.equal(padded[0, 2:], alone[0, 2:])  # to the bit
    torch.testing.assert_close(padded[0], alone[0])
    assert torch.equal(padded[1], torch.zeros(6))


def test_text_and_target_are_pooled_each_by_itself():
    config = StaticConfig(vocab_size=4, hidden_size=2, pair=True, num_labels=3)
    torch.manual_seed(0)
    model = StaticForSequenceClassification(config).eval()
    with torch.no_grad():
        model.bag.vectors.weight.copy_(torch.tensor(NUMBERS))
    assert model.dense.in_features == 12
    ids, mask = torch.tensor([[1, 2, 3]]), torch.ones(1, 3, dtype=torch.int64)
    whole, other = (model(ids, mask, torch.tensor([types])).logits for types in ([0, 0, 1], [0, 1, 1]))
    assert not torch.allclose(whole, other)
    swapped = model(torch.tensor([[2, 1, 3]]), mask, torch.tensor([[0, 0, 1]])).logits
    torch.testing.assert_close(swapped, whole)  # no order within a part
