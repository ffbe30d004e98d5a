"""The task: the question about a text, its labels, and how the teacher is shown them (`task.toml`, format 1)."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from potstill.contract.errors import FormatError
from potstill.contract.files import decode, digest
from potstill.contract.files.decode import Strict

FORMAT = 1


# Scripts whose words stand side by side, and Hangul, whose particles join them, by the beginning of their characters' names.
_UNSPACED = (
    *(f"{script} " for script in "CJK IDEOGRAPHIC HIRAGANA BOPOMOFO HANGUL THAI LAO KHMER MYANMAR TIBETAN YI TAI".split()),
    *("KATAKANA", "NEW TAI "),
)


class Label(Strict):
    """One label."""

    name: str
    meaning: str = ""  # shown beside the word; empty: the word says it
    words: list[str] = []  # words the teacher may answer with; worked examples use the first. Empty: the name

    @property
    def spellings(self) -> list[str]:
        """The words that mean this label, at least one."""
        return self.words or [self.name]


class Example(Strict, kw_only=True):
    """A worked example: a text, the reasoning about it, and its label."""

    text: str
    rationale: str = ""  # empty: it is shown where labels are asked directly, and left out where the teacher reasons first
    label: str
    target: str | None = None


class Knowledge(Strict):
    """A term and its meaning; added to the prompts of texts that contain the term, and to no others."""

    term: str
    meaning: str

    def occurs_in(self, text: str) -> bool:
        """True if the text contains the term as whole words, ignoring case and width.

        Where a script sets no space between words (Chinese, Japanese, Thai, ...) or joins particles to them (Korean), wherever the
        term stands.
        """
        term, text = unicodedata.normalize("NFKC", self.term), unicodedata.normalize("NFKC", text)
        for found in re.finditer(rf"(?=({re.escape(term)}))", text, re.IGNORECASE):
            start, end = found.span(1)
            before, after = text[max(start - 1, 0) : start], text[end : end + 1]
            if not (
                _joins(before, text[start]) or _joins(after, text[end - 1]) or unicodedata.category(after or " ").startswith("M")
            ):
                return True  # a sign after it would make another syllable of its last character
        return False


def _joins(outer: str, inner: str) -> bool:
    """True if the character beside a term makes it part of a longer word; a picture such as 🚀 is in none.

    Args: outer, "" at an end; inner, the term's own.
    """
    if unicodedata.category(inner) == "So":
        return False
    return _is_letter(outer) and not any(unicodedata.name(one, "").startswith(_UNSPACED) for one in (outer, inner))


def _is_letter(character: str) -> bool:
    """True for letters, digits, the underscore, and signs that combine with them."""
    return character.isalnum() or character == "_" or (character != "" and unicodedata.category(character).startswith("M"))


class Rule(Strict, kw_only=True):
    """A rule that votes for one label of every text it matches, beside the teacher; it abstains from all others.

    It has keywords or a pattern. The teacher is not shown it.
    """

    name: str
    label: str
    keywords: list[str] = []  # found as whole words, ignoring case, as :meth:`Knowledge.occurs_in` finds a term; any one is enough
    pattern: str = ""  # a regular expression in Python's syntax, searched for ignoring case; ^ and $ stand for a text's ends

    def matcher(self) -> Callable[[str], bool]:
        """What tells whether a text matches; made once for many texts."""
        if self.pattern:
            compiled = re.compile(self.pattern, re.IGNORECASE)
            return lambda text: compiled.search(text) is not None
        terms = [Knowledge(term=keyword, meaning="") for keyword in self.keywords]
        return lambda text: any(term.occurs_in(text) for term in terms)


class Wording(Strict):
    """Another way to ask the question; prompts take the task's own and these in turn. What is empty is as in the task."""

    question: str = ""
    guideline: str = ""
    answer: str = ""  # the cue before the label
    words: dict[str, list[str]] = {}  # by label: the words that mean it here; worked examples use the first


class Input(Strict):
    """The cues before text and target, and how much of a text is shown."""

    noun: str = "Text"  # written before each text in the prompt
    target: bool = False  # True: every text is about a named target
    target_noun: str = "About"  # written before the target in the prompt
    max_chars: int = 1000  # characters of a text that the teacher sees; longer texts are truncated and counted


class Prompt(Strict):
    """The cues before the teacher's reasoning and answer."""

    rationale: str = "Opinion"  # written before the reasoning
    answer: str = "Answer"  # written before the label


class Task(Strict, kw_only=True):
    """A complete task. `labels` are in output order: class i of every student and bundle is labels[i]."""

    format: int
    name: str
    question: str
    guideline: str = ""
    labels: list[Label]
    examples: list[Example] = []  # empty: the teacher is asked without any
    knowledge: list[Knowledge] = []
    rules: list[Rule] = []  # vote beside the teacher in `potstill labels combine`
    wordings: list[Wording] = []  # other ways to ask, whose answers are averaged with those of the task's own
    input: Input = Input()
    prompt: Prompt = Prompt()

    @property
    def digest(self) -> str:
        """SHA-256 of what decides a teacher's answers; layout, comments, the order of keys, and rules do not matter."""
        return digest.of_value(_without(self, "rules", *([] if self.wordings else ["wordings"])))

    @property
    def label_names(self) -> list[str]:
        """Names in output order."""
        return [label.name for label in self.labels]


class _Stated(msgspec.Struct):
    """The one field that is read first: another format has other fields."""

    format: int = FORMAT  # where it is missing, the whole file is read, and its first fault told


def load_task(path: str | Path) -> Task:
    """Read a task from a `task.toml`.

        >>> potstill.load_task("task.toml").label_names
        ['bullish', 'bearish', 'neutral']

    Raises:
        FormatError: if the file is missing, malformed, of another format, or contradicts itself.
    """
    path = Path(path)
    stated = decode.toml(path, _Stated).format
    if stated != FORMAT:
        several = f", and {FORMAT + 1} for several questions, which this step does not take" if stated == FORMAT + 1 else ""
        raise FormatError(path, "format", f"is {stated}; this version reads {FORMAT}{several}")
    task = decode.toml(path, Task)
    check_task(path, task)
    return task


def check_task(path: Path, task: Task) -> None:
    """Check that a task is whole and does not contradict itself; raises FormatError naming the field."""
    _check_texts(path, task)
    _check_labels(path, task)
    _check_examples(path, task)
    check_rules(path, task.rules, task.label_names)
    _check_wordings(path, task)


def as_task(task: Task | str | Path) -> Task:
    """The task itself, or the one in that file; raises FormatError as :func:`load_task`."""
    return task if isinstance(task, Task) else load_task(task)


def task_from_json(path: Path, data: bytes) -> Task:
    """Decode a task that :func:`task_to_json` encoded; raises FormatError."""
    return decode.json(path, data, Task)


def task_to_json(task: Task) -> bytes:
    """Encode the task as JSON, the form in which a checkpoint stores it; rules and wordings only if there are any."""
    content = _without(task, *(name for name in ("rules", "wordings") if not getattr(task, name)))
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def _without(task: Task, *fields: str) -> dict[str, object]:
    """The task's content without some fields, in the order of the others."""
    return {name: value for name, value in msgspec.structs.asdict(task).items() if name not in fields}


def _check_texts(path: Path, task: Task) -> None:
    """Check that no field that the prompt needs is blank."""
    for place in ("name", "question"):
        if not getattr(task, place).strip():
            raise FormatError(path, place, "is empty; write one sentence")
    for i, knowledge in enumerate(task.knowledge):
        if not knowledge.term.strip() or not knowledge.meaning.strip():
            raise FormatError(path, f"knowledge[{i}]", "term and meaning must not be empty; complete or delete it")
    if task.input.max_chars < 1:
        raise FormatError(path, "input.max_chars", f"is {task.input.max_chars}; it must be at least 1 character")


def _check_labels(path: Path, task: Task) -> None:
    """Check that there are at least two labels, with distinct names and words."""
    if len(task.labels) < 2:
        raise FormatError(path, "labels", f"has {len(task.labels)}; a task needs at least 2")
    names: list[str] = []
    owners: dict[str, str] = {}
    for i, label in enumerate(task.labels):
        if not label.name.strip():
            raise FormatError(path, f"labels[{i}].name", "is empty; name the label")
        if label.name in names:
            raise FormatError(path, f"labels[{i}].name", f"repeats {label.name!r}; rename one of the two")
        names.append(label.name)
        _check_words(path, f"labels[{i}].words", label.name, label.spellings, owners)


def _check_words(path: Path, place: str, label: str, words: Sequence[str], owners: dict[str, str]) -> None:
    """Check that a label's words are bare, differ, and stand for no other label. Args: owners, by word; grows."""
    for word in words:
        if not word.strip() or word != word.strip() or "\n" in word:
            raise FormatError(path, place, f"{word!r} is blank or has space around it; write the bare word")
        if word in owners:
            raise FormatError(path, place, f"{word!r} already stands for {owners[word]!r}; choose another word")
        owners[word] = label


def _check_wordings(path: Path, task: Task) -> None:
    """Check that each wording differs from the task, and that its words stand for labels, each for the same one in all wordings."""
    allowed = ", ".join(task.label_names)
    owners = {word: label.name for label in task.labels for word in label.spellings}
    for i, wording in enumerate(task.wordings):
        place = f"wordings[{i}]"
        if wording == Wording():
            raise FormatError(path, place, "says nothing; give it a question, a guideline, an answer cue or words, or delete it")
        for label, words in wording.words.items():
            if label not in task.label_names:
                raise FormatError(path, f"{place}.words", f"{label!r} is not a label; allowed: {allowed}")
            if not words:
                raise FormatError(path, f"{place}.words.{label}", "is empty; leave it out, so that the label's own words hold")
            elsewhere = {word: owner for word, owner in owners.items() if owner != label}
            _check_words(path, f"{place}.words.{label}", label, words, elsewhere)
            owners |= dict.fromkeys(words, label)


def _check_examples(path: Path, task: Task) -> None:
    """Check that every example has a text, a label of the task, and a target where the task has one."""
    allowed = ", ".join(task.label_names)
    for i, example in enumerate(task.examples):
        if example.label not in task.label_names:
            raise FormatError(path, f"examples[{i}].label", f"{example.label!r} is not a label; allowed: {allowed}")
        if not example.text.strip():
            raise FormatError(path, f"examples[{i}].text", "is empty; write it out, or delete the example")
        if task.input.target != (example.target is not None):
            found = "needs a target, because" if task.input.target else "has a target, but"
            wanted = str(task.input.target).lower()
            raise FormatError(path, f"examples[{i}].target", f"{found} input.target is {wanted}; change one of the two")


def check_rules(path: Path, rules: Sequence[Rule], labels: Sequence[str]) -> None:
    """Check that every rule has a name of its own, a label of the task, and either keywords or a pattern that can be read.

    Raises:
        FormatError: naming the first rule that has not.
    """
    names: list[str] = []
    for i, rule in enumerate(rules):
        place = f"rules[{i}]"
        if not rule.name.strip() or not rule.name.isprintable():
            raise FormatError(path, f"{place}.name", f"is {rule.name!r}; name the rule, in one line")
        if rule.name in names:
            raise FormatError(path, f"{place}.name", f"repeats {rule.name!r}; rename one of the two")
        names.append(rule.name)
        if rule.label not in labels:
            raise FormatError(path, f"{place}.label", f"{rule.label!r} is not a label; allowed: {', '.join(labels)}")
        if bool(rule.keywords) == bool(rule.pattern):
            found = "has both keywords and a pattern" if rule.pattern else "has neither keywords nor a pattern"
            raise FormatError(path, place, f"{found}; give one of the two")
        for keyword in rule.keywords:
            if not keyword.strip():
                raise FormatError(path, f"{place}.keywords", "holds an empty one; write it out, or delete it")
        _check_pattern(path, f"{place}.pattern", rule.pattern)


def _check_pattern(path: Path, place: str, pattern: str) -> None:
    """Check that a pattern can be read, and does not match everything; raises FormatError."""
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        at = f" at character {error.pos + 1}" if error.pos is not None else ""
        raise FormatError(path, place, f"is not a regular expression: {error.msg}{at}; write it in Python's syntax") from None
    if pattern and compiled.search(""):
        raise FormatError(path, place, "matches even an empty text, so the rule would vote on every one; write a narrower one")


def missing(task: Task) -> list[str]:
    """What a task could have and has not, and what that costs; a line each."""
    found, shown = [], Counter(example.label for example in task.examples)
    without = [name for name in task.label_names if not shown[name]]
    if not task.examples:
        found.append("no worked examples: the teacher is asked without any, and prompts differ in the order of the answers alone")
    elif without:
        names = ", ".join(without[:5]) + " and others" * (len(without) > 5)
        found.append(f"no worked example has the label {names}: a teacher rarely answers so")
    n_bare = sum(not example.rationale.strip() for example in task.examples)
    if n_bare:
        found.append(f"{n_bare} of {len(task.examples)} worked examples have no rationale: mode cot leaves them out")
    return found
