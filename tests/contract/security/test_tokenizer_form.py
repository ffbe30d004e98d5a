"""What a tokenizer may have: every known way to multiply a text, or to take long over one, is refused."""

import json
from pathlib import Path

import pytest
from support.attacks.tokenizer import ATTACKS
from support.tiny_bundle import a_tokenizer

from potstill.contract.errors import FormatError
from potstill.contract.security.tokenizer_form import check_tokenizer

PATH = Path("tokenizer.json")


def with_part(change):
    form = json.loads(a_tokenizer())
    change(form)
    return json.dumps(form).encode()


@pytest.mark.parametrize(("attack", "told"), ATTACKS, ids=lambda value: getattr(value, "__name__", None))
def test_a_part_that_could_explode_is_refused(attack, told):
    with pytest.raises(FormatError) as caught:
        check_tokenizer(PATH, with_part(attack))
    assert str(caught.value) == f"tokenizer.json: {told}"


def test_a_tokenizer_as_the_export_writes_it_passes():
    check_tokenizer(PATH, a_tokenizer())


@pytest.mark.parametrize(
    "pattern",
    [
        r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""",
        r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{M}]*[\p{Ll}\p{Lm}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|\s+""",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*",
        "[一-龥぀-ゟ゠-ヿ]+",
    ],
    ids=["byte-level", "llama", "o200k", "deepseek", "ideographs"],
)
def test_the_patterns_of_published_tokenizers_pass(pattern):
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    check_tokenizer(PATH, with_part(lambda form: form.update(pre_tokenizer=split)))


def test_the_normalizers_of_published_tokenizers_pass():
    quotes = [{"type": "Replace", "pattern": {"String": quote}, "content": '"'} for quote in ("``", "''")]
    spaces = [{"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}, {"type": "Prepend", "prepend": "▁"}]
    parts = [*quotes, {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, *spaces]
    check_tokenizer(PATH, with_part(lambda form: form.update(normalizer={"type": "Sequence", "normalizers": parts})))


@pytest.mark.parametrize(
    "pattern", ["(a|b+)*", "a*a*a*a*b", "a?" * 30 + "a" * 30, "[a", "(a", "a)", r"(?<n>a)\k<n>", "(?:a{9}){9}"]
)
def test_a_pattern_that_may_take_long_or_is_odd_is_refused(pattern):
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    with pytest.raises(FormatError, match="pre_tokenizer: has a regular expression that "):
        check_tokenizer(PATH, with_part(lambda form: form.update(pre_tokenizer=split)))
