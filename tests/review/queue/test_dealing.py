"""Everybody gets texts of their own and some that all are shown, in an order that keeps a random sample random."""

import pytest

from potstill.contract.errors import UserError
from potstill.labeler.store.people import HumanDecision
from potstill.review.people.decided import Decided
from potstill.review.queue.dealing import ReviewSettings, deal, next_place, random_order

IDS = [f"t{i}" for i in range(1000)]


def test_the_random_order_follows_from_seed_and_ids_alone():
    assert random_order(IDS) == random_order(IDS[::-1]) != random_order(IDS, seed=1)
    assert sorted(random_order(IDS)) == sorted(IDS)
    fewer = random_order(IDS[:500])
    assert [text_id for text_id in random_order(IDS) if text_id in set(fewer)] == fewer


def test_one_person_gets_every_text_once():
    queue = deal(random_order(IDS), ReviewSettings(("ann",), "random", 0.2))["ann"]
    assert [place.text_id for place in queue] == random_order(IDS) and {place.mode for place in queue} == {"random"}


@pytest.mark.parametrize("people", [["ann", "bob"], ["ann", "bob", "eve"]])
@pytest.mark.parametrize("overlap", [0.0, 0.2, 1.0])
def test_the_overlap_is_the_stated_share_of_each_beginning_and_the_rest_is_of_one_person(people, overlap):
    queues = deal(random_order(IDS), ReviewSettings(tuple(people), "random", overlap))
    together = [[place.text_id for place in queues[person] if place.mode == "overlap"] for person in people]
    assert all(own == together[0] for own in together)
    alone = [place.text_id for person in people for place in queues[person] if place.mode == "random"]
    assert len(set(alone)) == len(alone) and set(alone) | set(together[0]) == set(IDS)
    for person in people:
        for n in (50, 200):
            share = sum(place.mode == "overlap" for place in queues[person][:n]) / n
            assert share == pytest.approx(overlap, abs=0.03)


def test_texts_for_all_are_random_also_in_a_ranked_queue():
    ranked = deal(IDS, ReviewSettings(("ann", "bob"), "ranked", 0.2))
    random = deal(random_order(IDS), ReviewSettings(("ann", "bob"), "random", 0.2))
    for_all = [[place.text_id for place in queue["ann"] if place.mode == "overlap"] for queue in (ranked, random)]
    assert for_all[0] == for_all[1]
    own = [IDS.index(place.text_id) for place in ranked["ann"] if place.mode == "ranked"]
    assert own == sorted(own)


def test_a_share_that_is_none_is_refused():
    with pytest.raises(UserError, match=r"overlap is 1.5; it must be a share from 0 to 1"):
        deal(IDS, ReviewSettings(("ann",), "random", 1.5))


def test_a_text_that_was_looked_for_still_gets_its_random_turn_but_not_a_ranked_one():
    def decided(mode):
        return Decided([HumanDecision(entry="e", text_id=order[0], person="ann", mode=mode, labels="up", number=1)])

    order = random_order(IDS)
    random, ranked = (deal(order, ReviewSettings(("ann",), queue, 0))["ann"] for queue in ("random", "ranked"))
    assert next_place(random, decided("search"), "ann").text_id == order[0]
    assert next_place(random, decided("random"), "ann").text_id == order[1]
    assert next_place(ranked, decided("search"), "ann").text_id == order[1]
    assert next_place(random, decided("random"), "bob").text_id == order[0]
    assert next_place([], decided("random"), "ann") is None
