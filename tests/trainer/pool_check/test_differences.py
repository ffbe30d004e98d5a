from support.drawn_texts import drawn_texts

from potstill.trainer.pool_check.differences import telltale
from potstill.trainer.pool_check.separability import reading


def found(pool, target):
    return telltale(reading([*pool, *target]), pool, target)


def test_texts_of_one_source_give_nothing_away():
    told = found(drawn_texts(300, 1), drawn_texts(300, 2))
    assert (told.traits, told.pool_words, told.target_words) == ([], [], [])


def test_different_lengths_alone_are_named_and_no_word_is_blamed():
    told = found(drawn_texts(300, 1, words=(40, 80)), drawn_texts(300, 2, words=(5, 15)))
    assert told.pool_length.low > told.target_length.high
    assert (told.pool_words, told.target_words) == ([], [])


def test_words_are_named_on_the_side_that_has_more_of_them_with_their_shares():
    pool = [f"{text} zebra" if i % 2 else text for i, text in enumerate(drawn_texts(200, 1))]
    target = [f"{text} lion" if i % 4 else text for i, text in enumerate(drawn_texts(200, 2))]
    told = found(pool, target)
    words = {row.name: (row.pool, row.target) for row in told.pool_words}
    assert words["zebra"] == (0.5, 0.0)
    assert {row.name: (row.pool, row.target) for row in told.target_words}["lion"] == (0.0, 0.75)
    assert not words.keys() & {row.name for row in told.target_words}


def test_traits_that_differ_are_named_the_largest_gap_first():
    pool = [f"Title\n\n{text}" for text in drawn_texts(200, 1)]
    target = [f"{text} 🚀" if i % 5 == 0 else text for i, text in enumerate(drawn_texts(200, 2))]
    told = found(pool, target)
    names = [(row.name, row.pool, row.target) for row in told.traits]
    assert names[:2] == [("a title (short first line, then a blank one)", 1.0, 0.0), ("a line break", 1.0, 0.0)]
    assert ("an emoji", 0.0, 0.2) in names
    gaps = [abs(pool_share - target_share) for _, pool_share, target_share in names]
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] >= 0.1
