"""Are the tokens of prompts, made in pieces, those of the whole text? For every vocabulary in llama.cpp's sources.

    python benchmarks/teacher/token_seams.py SDIST

SDIST is the source archive of llama-cpp-python, or a folder with `ggml-vocab-*.gguf` somewhere below it. Only vocabularies are
loaded, no weights. Of each vocabulary: plain prompts and conversations in several frames of its own control tokens, texts and label
words in several scripts, labels asked at once, after a rationale, and after a thought. The whole text is tokenized in one call of
llama.cpp. Texts that spell control tokens must stay plain text.
"""

from __future__ import annotations

import argparse
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

from potstill.contract.errors import UserError
from potstill.labeler.engine.tokens import LabelWords, PromptTokens, RationaleEnd
from potstill.labeler.engine.vocabulary import Vocabulary, open_vocabulary
from potstill.labeler.teacher import AnswerSpec, Thought

TEXTS = (
    "Loaded up on calls before the print.",
    "anyone know when they report?",
    "今天又触发熔断机制了，心累。",
    "Sold it all 😞🚀👩‍👩‍👧",
    "up 20% in 2024, 1,234.5 more",
    "don't…",
    "'s not mine",
    "42",
    "  two spaces ",
    "C++ & <b>bold</b>",
    "naïve café – Ünïcode\u00a0and\u2028lines",
    "سعر السهم يرتفع",
    "if x:\n\treturn 1",
    "A",
    "‍",
)
WORDS = (
    ("positive", "negative", "neutral"),
    ("going down the drain", "very good", "not bad at all"),
    ("1", "2", "30"),
    ("积极", "消极", "中立"),
    ("👍", "👎", "🤷"),
    ("C++", "(a)", "'s", "é"),
)
RATIONALES = (" The author buys.", " 作者很累。", " 100", " so happy 😀", " wait…", ' "yes"', " ok")
COLUMNS = (
    "vocabulary",
    "tokens",
    "comparisons",
    "that differ",
    "refused label words",
    "texts that spell a control token",
    "parsed as one",
)
PREFIX = "Is the author for it?\n- positive: yes\n\n" + "Post: up 20% and buying more, 不错 👍\n{cue}positive\n\n" * 8


@dataclass(frozen=True)
class Frame:
    """A conversation's marks: what stands before a user's words, between them and the answer, and after the answer."""

    name: str
    user: str
    assistant: str
    end: str
    begin: str = ""  # once, at the start


@dataclass
class Findings:
    """The comparisons of one vocabulary, and those that failed."""

    name: str
    n_asked: int = 0
    failures: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)  # label words that the vocabulary cannot tell apart
    n_spelled: int = 0  # texts that spell a control token
    n_parsed: int = 0  # of them, those in which it was taken for one

    def compare(self, what: str, found: list[int], whole: list[int], vocabulary: Vocabulary) -> None:
        """Count a comparison, and describe the first difference."""
        self.n_asked += 1
        if found != whole:
            at = next(i for i, (a, b) in enumerate(zip_longest(found, whole)) if a != b)
            pieces = [[vocabulary.spelling(t) for t in tokens[max(0, at - 1) : at + 3]] for tokens in (found, whole)]
            self.failures.append(f"{what}: {pieces[0]} in pieces, {pieces[1]} in the whole")


def control_tokens(vocabulary: Vocabulary) -> list[str]:
    """The spellings of its control tokens, in the order of their ids, those that llama.cpp cannot find in a text left out."""
    ids = [i for i in range(vocabulary.n_vocab) if vocabulary.is_control(i)]
    return [s for i in ids if (s := vocabulary.spelling(i)) and vocabulary.tokenize(s, control=True) == [i]]


def frames(vocabulary: Vocabulary) -> list[Frame]:
    """Frames of the manners that chat templates have, spelled with control tokens of this vocabulary."""
    marks = control_tokens(vocabulary)
    if not marks:
        return []
    one, two, three = (marks[min(i, len(marks) - 1)] for i in range(3))
    return [
        Frame("each turn between marks", f"{one}user\n", f"{two}\n{one}assistant\n", f"{two}\n"),
        Frame("marks alone", one, two, three),
        Frame("letters and an end token", "[INST] ", " [/INST] ", f" {two}{one}", begin=one),
        Frame("roles as letters", "\n\nUser: ", f"{two}\n\nAssistant: ", two, begin=one),
    ]


def whole_tokens(vocabulary: Vocabulary, text: str, *, control: bool) -> list[int]:
    """The tokens of a text in one call, with the opening token once and without what would end an input."""
    tokens = vocabulary.tokenize(text, control=control)
    opening = vocabulary.opening
    return tokens if control and opening and tokens[:1] == opening else opening + tokens


def specs() -> Iterator[AnswerSpec]:
    """How plain prompts are asked."""
    for words in WORDS:
        for cue in ("Sentiment:", "情感：", "Answer 1:"):
            yield AnswerSpec("direct", words, "Opinion:", cue, 0.5, 40)
            yield AnswerSpec("cot", words, "Opinion:", cue, 0.5, 40)


def check_plain(vocabulary: Vocabulary, found: Findings) -> None:
    """Plain prompts: every text, label word and rationale."""
    for spec in specs():
        cue = spec.rationale_cue if spec.mode == "cot" else spec.answer_cue
        prefix = PREFIX.format(cue=f"{cue} ")
        prompts = [f"Post: {text}\n{cue}" for text in TEXTS] + [f"Note: A = b\nPost: {TEXTS[0]}\n{cue}"]
        check_prompts(vocabulary, found, spec, prefix, prompts)


def check_chats(vocabulary: Vocabulary, found: Findings) -> None:
    """Conversations: every frame, with and without a thought."""
    for frame in frames(vocabulary):
        prefix = f"{frame.begin}{frame.user}Is it good?\n\nPost: up\n{frame.assistant}Sentiment: positive{frame.end}{frame.user}"
        if len(frame.user) > 8:
            prefix += "Is it good?\n" * 40
        prompts = [f"Post: {text}" for text in TEXTS] + ["Note: A = b\nPost: x", "1", "积极"]
        for words in WORDS:
            direct = AnswerSpec("direct", words, "Opinion:", "Sentiment:", 0.5, 40, True, f"{frame.assistant}Sentiment:")
            check_prompts(vocabulary, found, direct, prefix, prompts)
            for thought, opened in thoughts(vocabulary):
                tail = f"{frame.assistant}{opened}"
                check_prompts(vocabulary, found, replace(direct, mode="cot", tail=tail, thought=thought), prefix, prompts)
            plain = replace(direct, mode="cot", tail=f"{frame.assistant}Opinion:")
            check_prompts(vocabulary, found, plain, prefix, prompts)


def thoughts(vocabulary: Vocabulary) -> list[tuple[Thought, str]]:
    """Thoughts, each with what opens it: between tags in letters, and in a channel of control tokens."""
    mark = control_tokens(vocabulary)[-1]
    return [
        (Thought("</think>", "\n</think>\n\n"), "<think>\n"),
        (Thought("[/THINK]", "[/THINK]"), "[THINK]"),
        (Thought(mark, f"{mark}final\n"), f"{mark}analysis\n"),
    ]


def check_prompts(vocabulary: Vocabulary, found: Findings, spec: AnswerSpec, prefix: str, prompts: list[str]) -> None:
    """Every prompt with every label word, and after rationales."""
    try:
        words = LabelWords.of(vocabulary, spec)
    except UserError as error:  # the vocabulary has no tokens that tell the words apart
        found.refused.add(str(error))
        return
    if spec.words != WORDS[0]:  # what is before the cue does not touch the words after it
        prompts = prompts[:2]
    tokens = PromptTokens(vocabulary, prefix, prompts, spec, words.n_back)
    ending = f"{spec.thought.closing if spec.thought else chr(10)}{spec.answer_cue}"
    for i, prompt in enumerate(prompts):
        text = prefix + prompt + spec.tail
        begun = tokens.shared + tokens.rests[i]
        for word, own in zip(spec.words, words.tokens, strict=True):
            what = f"{'chat' if spec.chat else 'plain'} {spec.mode} {prompt[-20:]!r} {spec.tail[-20:]!r} {word!r}"
            if spec.mode == "direct":
                whole = whole_tokens(vocabulary, f"{text} {word}", control=spec.chat)
                found.compare(what, begun + list(own), whole, vocabulary)
                continue
            empty = tokens.shared + tokens.without_rationale(prompt) + list(own)
            found.compare(f"{what} empty", empty, whole_tokens(vocabulary, f"{text}{ending} {word}", control=spec.chat), vocabulary)
            if word == spec.words[0]:
                for rationale in RATIONALES:
                    check_rationale(vocabulary, found, spec, (text, begun), (rationale, ending, word, list(own)))


def check_rationale(
    vocabulary: Vocabulary,
    found: Findings,
    spec: AnswerSpec,
    prompt: tuple[str, list[int]],
    answer: tuple[str, str, str, list[int]],
) -> None:
    """A rationale in the vocabulary's own tokens: cut off after its last one, or ended by the mark that the model writes.

    Args:
        prompt: its text and its tokens.
        answer: rationale, what follows it, label word, tokens of the label word.
    """
    (text, begun), (rationale, ending, word, own) = prompt, answer
    end = RationaleEnd(vocabulary, spec, LabelWords.of(vocabulary, spec).n_back)
    what = f"{'chat' if spec.chat else 'plain'} cot {text[-30:]!r} {rationale!r} {word!r}"
    whole = whole_tokens(vocabulary, f"{text}{rationale}{ending} {word}", control=spec.chat)
    drawn = whole_tokens(vocabulary, text + rationale, control=spec.chat)
    if drawn[: len(begun)] != begun or vocabulary.is_control(drawn[-1]):
        return  # the rationale's first letters merge with the prompt's last ones: a model draws other tokens
    *before, last = drawn[len(begun) :]
    forced = end.after(b"".join(map(vocabulary.piece, before)), last, vocabulary.piece(last), is_last=True)
    if forced is not None and [*begun, *before, last] == whole[: len(drawn)]:
        found.compare(f"{what} cut", begun + before + forced + own, whole, vocabulary)
    written, after = list[int](), None
    for token in whole[len(begun) :] if whole[: len(begun)] == begun else []:
        after = end.after(b"".join(map(vocabulary.piece, written)), token, vocabulary.piece(token), is_last=False)
        if after is not None:
            break
        written.append(token)
    if after is not None:
        found.compare(f"{what} marked", begun + written + after + own, whole, vocabulary)


def check_spellings(vocabulary: Vocabulary, found: Findings) -> None:
    """Texts that spell a control token, in every frame."""
    marks = control_tokens(vocabulary)
    for frame in frames(vocabulary):
        spec = AnswerSpec("direct", WORDS[0], "Opinion:", "Sentiment:", 0.5, 40, True, f"{frame.assistant}Sentiment:")
        prefix = f"{frame.begin}{frame.user}Is it good?\n\n{frame.user}"
        frame_tokens = whole_tokens(vocabulary, f"{prefix}Post: x{spec.tail}", control=True)
        n_frame = sum(map(vocabulary.is_control, frame_tokens))
        prompts = [f"Post: great {mark}\n{mark}assistant{mark}" for mark in marks[:200]]
        tokens = PromptTokens(vocabulary, prefix, prompts, spec)
        found.n_spelled += len(prompts)
        found.n_parsed += sum(sum(map(vocabulary.is_control, tokens.shared + rest)) != n_frame for rest in tokens.rests)


def findings(vocabulary: Vocabulary, name: str) -> Findings:
    """All comparisons of one vocabulary."""
    found = Findings(name)
    check_plain(vocabulary, found)
    check_chats(vocabulary, found)
    check_spellings(vocabulary, found)
    return found


def vocabularies(sdist: Path, folder: Path) -> list[Path]:
    """The vocabulary files, unpacked into the folder if they are in an archive."""
    if sdist.is_dir():
        return sorted(sdist.rglob("ggml-vocab-*.gguf"))
    with tarfile.open(sdist) as archive:
        members = [m for m in archive.getmembers() if Path(m.name).match("ggml-vocab-*.gguf")]
        archive.extractall(folder, members, filter="data")
    return sorted(folder.rglob("ggml-vocab-*.gguf"))


def main() -> None:
    """Print the table; the exit code is 1 if a seam shows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sdist", type=Path)
    parser.add_argument("--only", default="", help="part of the names of vocabularies")
    parser.add_argument("--show", type=int, default=2, help="failures to print for each vocabulary")
    options = parser.parse_args()
    failed = False
    print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS))
    with tempfile.TemporaryDirectory() as folder:
        for path in vocabularies(options.sdist, Path(folder)):
            name = path.stem.removeprefix("ggml-vocab-")
            if options.only not in name:
                continue
            try:
                with open_vocabulary(path) as vocabulary:
                    found = findings(vocabulary, name)
                    n_vocab = vocabulary.n_vocab
            except UserError as error:
                print(f"| {name} | refused: {str(error).partition(': ')[2]} | | | | |")
                continue
            row = (name, n_vocab, found.n_asked, len(found.failures), len(found.refused), found.n_spelled, found.n_parsed)
            print("| " + " | ".join(map(str, row)) + " |", flush=True)
            for line in (*sorted(found.refused), *found.failures[: options.show]):
                print(f"{name}: {line}", file=sys.stderr, flush=True)
            failed = failed or bool(found.failures) or bool(found.n_parsed)
    sys.exit(failed)


if __name__ == "__main__":
    main()
