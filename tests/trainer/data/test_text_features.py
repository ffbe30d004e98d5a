import pytest

from potstill.trainer.data.text_features import TRAITS, lengths, term_occurrences, terms_in, trait_table


def traits(text):
    """What a text has, by the first words of the trait's name."""
    return {name.partition(" (")[0] for name, has in zip(TRAITS, trait_table([text])[0], strict=True) if has}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Plain words.", set()),
        ("Why me?\n\nBecause of this.", {"a title", "a line break", "a question mark"}),
        ("A line.\nAnother one.", {"a line break"}),
        ("Too long for a title, " * 9 + "\n\nthe rest.", {"a line break"}),
        ("A title and nothing below\n\n", {"a line break", "an end without punctuation"}),
        ("See www.example.org.", {"a URL"}),
        ("See HTTPS://example.org/x.", {"a URL"}),
        ("See [this](that).", {"markdown"}),
        ("Said:\n> no.", {"a line break", "markdown"}),
        ("Fish &amp; chips<br>.", {"HTML"}),
        ("One < two, me > you.", set()),
        ("All in on $GME.", {"a ticker"}),
        ("It cost me $20.", {"a digit"}),
        ("By @somebody, a@b.de.", {"a @name"}),
        ("So #blessed, not #1.", {"a #tag", "a digit"}),
        ("Up 🚀.", {"an emoji"}),
        ("“No.”", {"quotation marks"}),
        ("Then it went", {"an end without punctuation"}),
        ("And then...", {"an end that is cut off"}),
        ("and then.", {"a lower-case start"}),
        ("YOLO.", {"no lower-case letter"}),
        ("它涨了。", set()),
    ],
)
def test_a_trait_is_what_its_name_says(text, expected):
    assert traits(text) == expected


@pytest.mark.parametrize("text", ["A" * 200_000 + "b", " " * 200_000 + "b", "<a" * 100_000, "[" * 200_000, "\n " * 100_000 + "b"])
def test_no_text_takes_long(text):
    trait_table([text])  # a pattern that tries every split of it would take hours


def test_a_length_is_in_characters():
    assert lengths(["", "ça", "🚀 up"]).tolist() == [0, 2, 4]


def test_words_pairs_and_symbols_are_terms_but_single_letters_and_commas_are_not():
    assert terms_in("I BTFD, theta gang 🚀") == {"btfd", "theta", "gang", "🚀", "btfd theta", "theta gang", "gang 🚀"}
    assert {"$gme", "short-squeeze", "don't"} <= terms_in("$GME short-squeeze don't")


def test_scripts_without_spaces_are_read_in_pairs_of_characters():
    assert {"酒店", "店很", "很好"} <= terms_in("酒店很好")


def test_a_term_counts_as_often_as_it_occurs():
    assert term_occurrences("buy buy").count("buy") == 2
