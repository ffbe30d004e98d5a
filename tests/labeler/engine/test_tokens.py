"""Tokens made in pieces are those of the whole text: in the embedded teacher's vocabulary, and in small ones with every kind of seam.

`benchmarks/teacher/token_seams.py` asks the same of all vocabularies in llama.cpp's sources.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.teachers.tiny_vocabulary import KINDS, write_vocabulary
from teacher import token_seams

from potstill.contract.errors import UserError
from potstill.labeler.engine import tokens
from potstill.labeler.engine.tokens import LabelWords, PromptTokens, RationaleEnd
from potstill.labeler.engine.vocabulary import Vocabulary, open_vocabulary
from potstill.labeler.teacher import AnswerSpec, Thought

pytestmark = pytest.mark.slow

WORDS = ("positive", "going down")
PLAIN = AnswerSpec("direct", WORDS, "Opinion:", "Sentiment:", 0.5, 40)


@pytest.fixture(scope="module", params=["smollm2", *KINDS])
def vocabulary(request: pytest.FixtureRequest, smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vocabulary]:
    kind = request.param
    path = smollm2 if kind == "smollm2" else write_vocabulary(tmp_path_factory.mktemp("vocabulary") / f"{kind}.gguf", kind)
    with open_vocabulary(path) as opened:
        yield opened


@pytest.fixture
def named(tmp_path: Path) -> Iterator:
    """A function that opens one of the small vocabularies."""
    opened = []

    def open_one(kind: str) -> Vocabulary:
        manager = open_vocabulary(write_vocabulary(tmp_path / f"{kind}.gguf", kind))
        opened.append(manager)
        return manager.__enter__()

    yield open_one
    for manager in opened:
        manager.__exit__(None, None, None)


def test_prompts_and_label_words_in_pieces_have_the_tokens_of_the_whole(vocabulary, monkeypatch):
    monkeypatch.setattr(token_seams, "WORDS", (token_seams.WORDS[0], token_seams.WORDS[1], token_seams.WORDS[3]))
    monkeypatch.setattr(token_seams, "TEXTS", token_seams.TEXTS[::3])
    monkeypatch.setattr(token_seams, "RATIONALES", token_seams.RATIONALES[:4])
    found = token_seams.findings(vocabulary, "")
    assert found.n_asked > 500
    assert not found.failures[:3]


def test_a_text_that_spells_a_control_token_stays_a_text(vocabulary):
    found = token_seams.Findings("")
    token_seams.check_spellings(vocabulary, found)
    assert found.n_spelled >= 8 and found.n_parsed == 0


def test_what_is_far_from_a_text_need_not_be_tokenized_with_it(vocabulary, monkeypatch):
    prefix = "Post: up 20%, and more.\nSentiment: positive\n\n" * 20
    prompts = [f"Post: {text}\nSentiment:" for text in token_seams.TEXTS]
    near = PromptTokens(vocabulary, prefix, prompts, PLAIN)
    monkeypatch.setattr(tokens, "_WINDOW", 10**6)
    whole = PromptTokens(vocabulary, prefix, prompts, PLAIN)
    assert len(near._window) < 400 and not whole._window
    assert (near.shared, near.rests) == (whole.shared, whole.rests)


def test_a_text_that_changes_tokens_beyond_the_window_has_everything_tokenized_anew(vocabulary, monkeypatch):
    prefix, prompts = "Post: up 20%, and more.\nSentiment: positive\n\n" * 20, ["Post: up\nSentiment:", "Post: no\nSentiment:"]
    expected = PromptTokens(vocabulary, prefix, prompts, PLAIN)
    tokenize = vocabulary.tokenize

    def restless(text: str, **how: bool) -> list[int]:
        found = tokenize(text, **how)
        return [0, *found[1:]] if text.endswith("no\nSentiment:") and len(text) < len(prefix) else found

    monkeypatch.setattr(vocabulary, "tokenize", restless)
    found = PromptTokens(vocabulary, prefix, prompts, PLAIN)
    assert not found._window
    assert (found.shared, found.rests) == (expected.shared, expected.rests)


def test_all_prompts_begin_with_the_shared_tokens_whatever_they_begin_with(vocabulary):
    prompts = ["Post: up", "\nPost: up", " up", "1", "ing", "积极"]
    prefix = "Post: a\n\n"
    found = PromptTokens(vocabulary, prefix, prompts, PLAIN)
    for prompt, rest in zip(prompts, found.rests, strict=True):
        assert found.shared + rest == vocabulary.opening + vocabulary.tokenize(prefix + prompt)


def test_a_full_stop_merges_with_the_line_break_before_the_cue(named):
    vocabulary = named("byte_pairs")
    end = RationaleEnd(vocabulary, AnswerSpec("cot", WORDS, "Opinion:", "Sentiment:", 0.5, 40), 0)
    (stop,), (merged,) = vocabulary.tokenize("."), vocabulary.tokenize(".\n")
    for token, piece in ((stop, b"."), (merged, b".\n")):
        forced = end.after(b" It buys", token, piece, is_last=True)
        assert forced == [merged, *vocabulary.tokenize("Sentiment:")]
    assert end.after(b" It buys", stop, b".", is_last=False) is None


def test_a_cue_that_merges_with_a_label_word_gives_its_end_to_the_words(named):
    vocabulary = named("sentencepiece")
    words = LabelWords.of(vocabulary, PLAIN)
    assert words.n_back == 1
    assert [vocabulary.spelling(word[0]) for word in words.tokens] == [":▁p", ":"]
    found = PromptTokens(vocabulary, "Post: a\n\n", ["Post: up\nSentiment:"], PLAIN, words.n_back)
    for word, own in zip(WORDS, words.tokens, strict=True):
        whole = vocabulary.tokenize(f"Post: a\n\nPost: up\nSentiment: {word}")
        assert [*found.shared, *found.rests[0], *own] == vocabulary.opening + whole


def test_a_template_that_writes_the_opening_token_gets_it_once(named):
    for kind in KINDS:
        vocabulary = named(kind)
        chat = AnswerSpec("direct", WORDS, "Opinion:", "Sentiment:", 0.5, 40, True, "<|end|><|assistant|>Sentiment:")
        (begin,) = vocabulary.opening
        for prefix in ("<s><|user|>", "<|user|>", "<s>"):
            assert PromptTokens(vocabulary, prefix, ["up"], chat).shared.count(begin) == 1


def test_whitespace_that_a_control_token_removes_is_removed_from_the_text_too(named):
    vocabulary = named("stripping")
    chat = AnswerSpec("direct", WORDS, "Opinion:", "Sentiment:", 0.5, 40, True, "<|end|>\n<|assistant|>\nSentiment:")
    found = PromptTokens(vocabulary, "<|user|>\n", [" up"], chat)
    whole = vocabulary.tokenize("<|user|>up<|end|><|assistant|>Sentiment:", control=True)
    assert found.shared + found.rests[0] == vocabulary.opening + whole


@pytest.mark.parametrize("mark", ["</think>", "<|end|>"])
def test_a_mark_that_is_one_token_ends_a_thought(named, mark):
    vocabulary = named("byte_pairs")
    spec = AnswerSpec("cot", WORDS, "", "Sentiment:", 0.5, 40, True, "<|assistant|>", Thought(mark, f"\n{mark}\n\n"))
    (token,) = vocabulary.tokenize(mark, control=True)
    forced = RationaleEnd(vocabulary, spec, 0).after(b"It buys", token, vocabulary.piece(token), is_last=False)
    assert forced == vocabulary.tokenize(f"{mark}\n\nSentiment:", control=True)


def test_a_mark_in_letters_is_found_over_several_tokens(named):
    vocabulary = named("sentencepiece")
    spec = AnswerSpec("cot", WORDS, "", "Sentiment:", 0.5, 40, True, "<|assistant|>", Thought("</think>", "\n</think>\n\n"))
    end = RationaleEnd(vocabulary, spec, 0)
    written, forced = b"It buys </th", None
    for piece in (b"in", b"k> "):
        assert forced is None
        (token, *_) = vocabulary.tokenize_on(piece.decode())
        forced = end.after(written, token, piece, is_last=False)
        written += piece
    assert forced == vocabulary.tokenize_on("k>\n\nSentiment:")
    assert end.rationale(written) == "It buys"


def test_a_word_knows_the_longest_one_that_begins_it(vocabulary):
    spec = AnswerSpec("direct", ("up", "up and away", "down", "up and"), "", "Sentiment:", 0.5, 40)
    assert LabelWords.of(vocabulary, spec).begun_by == (None, 3, None, 0)


def test_words_with_the_same_tokens_are_refused(vocabulary):
    with pytest.raises(UserError, match=r"^label words 'up' and 'up' are the same to this teacher; change one$"):
        LabelWords.of(vocabulary, AnswerSpec("direct", ("up", "up"), "", "Sentiment:", 0.5, 40))


def test_a_file_without_a_vocabulary_is_refused(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError) as caught, open_vocabulary(tmp_path / "a.gguf"):
        pass
    assert "llama.cpp cannot read its vocabulary (" in str(caught.value)
    assert str(caught.value).endswith("); check it with: potstill models verify")
