import pytest

from potstill.trainer.data.text_features import TRAITS, trait_table


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
