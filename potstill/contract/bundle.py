"""The bundle: a folder that needs only onnxruntime and tokenizers to answer on a CPU (`bundle.json`, format 1;
2 where it answers several questions).

bundle.json            this file's :class:`Manifest`
model.onnx             token ids in, logits out
tokenizer.json         normalization and truncation included; config.json and tokenizer_config.json for other tools
fast.onnx              in a cascade only: the graph that answers first; with fast_tokenizer.json
familiarity.json       optional: scores of tokens, to tell a text unlike the pool's
golden.jsonl           texts with the probabilities that the exporting machine computed
quality.json           what the export gate measured
README.md              model card
SHA256SUMS             of every other file, as `sha256sum -c SHA256SUMS` reads it
model.sig              a signature, if the folder was signed; the only file that SHA256SUMS does not list
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from potstill.contract.checkpoint import UsedGold
from potstill.contract.errors import FormatError
from potstill.contract.files import decode, digest
from potstill.contract.files.decode import Strict
from potstill.contract.files.plain import TooLargeError, is_still_there, open_folder, read_plain
from potstill.contract.files.wrong_folder import MARKS, not_a
from potstill.contract.promises.certificate import Certificate, check_certificate, check_certificates
from potstill.contract.promises.familiarity import FAMILIARITY_FILE, MAX_FILE_BYTES
from potstill.contract.questions.decision import Conformal, Precision, check_bias, check_confidence, check_decision
from potstill.contract.questions.head import Head, check_heads
from potstill.contract.scores.record import Scores
from potstill.contract.security.signature import SIGNATURE_FILE
from potstill.contract.system.machine import Machine

FORMAT = 1
WITH_HEADS = 2  # the format of a bundle that answers several questions
MANIFEST_FILE, MODEL_FILE, TOKENIZER_FILE = "bundle.json", "model.onnx", "tokenizer.json"
FAST_MODEL_FILE, FAST_TOKENIZER_FILE = "fast.onnx", "fast_tokenizer.json"
GOLDEN_FILE, QUALITY_FILE, SUMS_FILE = "golden.jsonl", "quality.json", MARKS["bundle"]
REQUIRED_FILES = (MANIFEST_FILE, MODEL_FILE, TOKENIZER_FILE, GOLDEN_FILE, QUALITY_FILE)
PARSED_FILES = frozenset(
    {MANIFEST_FILE, MODEL_FILE, TOKENIZER_FILE, FAST_MODEL_FILE, FAST_TOKENIZER_FILE, GOLDEN_FILE, FAMILIARITY_FILE}
)
# Largest accepted size of a file, in bytes, far above what an export writes. A graph may have as many as its format allows.
MAX_BYTES = {
    SUMS_FILE: 2**20,
    MANIFEST_FILE: 2**24,
    GOLDEN_FILE: 2**23,
    TOKENIZER_FILE: 2**26,
    FAST_TOKENIZER_FILE: 2**26,
    FAMILIARITY_FILE: MAX_FILE_BYTES,
    MODEL_FILE: 2**31 - 1,
    FAST_MODEL_FILE: 2**31 - 1,
}
MAX_OTHER_BYTES = 2**26  # of a file that is only hashed
MAX_GOLDEN = 1000  # texts; an export writes a few dozen
# All of them are answered before the first request, so together they may have so many characters; of each only the first ones
# count, as a model reads no more. A MiniLM reads them in about 2 s.
MAX_GOLDEN_CHARS, GOLDEN_TEXT_CHARS = 60_000, 1_000
TRIES = 5  # to read a folder that is exchanged meanwhile
Measure = Literal["macro_f1", "agreement", "accuracy"]  # whose loss a cascade limits: on gold labels, or of the slow graph's labels
_SUM_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9_][A-Za-z0-9_.-]*)")


class Provenance(Strict):
    """The data and models that a bundle was made from."""

    task_digest: str
    teacher_digest: str
    backbone: str
    backbone_digest: str
    soft_labels_digest: str
    loss: str
    n_train: int
    used_gold: UsedGold | None = None  # gold labels that were trained on; None: none was


class Cascade(Strict):
    """The fast graph of a cascade, its confidence threshold, and the loss on the texts that the threshold was chosen on.

    Fields that the manifest has too mean the same, for the fast graph's own answers.
    """

    sure: float  # confidence threshold, 0 to 1: the fast graph's answer stands if its top probability is at least this
    max_tokens: int
    temperature: float
    thresholds: dict[str, float | None] | None
    bias: list[float] | None
    variant: str
    backbone: str
    measure: Measure
    max_loss: float  # largest accepted loss of that measure
    loss: float  # with the chosen threshold, on the texts that it was chosen on
    loss_held_out: float | None  # mean over halves of the texts, each with the threshold chosen on the other half; None for a bound
    share: float  # of the texts that the fast graph answered, 0 to 1
    n: int  # number of texts
    confidence: float | None = None  # that the loss on texts of this kind is at most max_loss; None: it is so on these texts only


class Manifest(Strict):
    """The settings that turn a bundle's logits into an answer, with its scores and its origin."""

    format: int
    name: str
    labels: list[str]  # in output order; of several questions `question/label`
    target: bool  # True: the input is a pair of text and target
    max_tokens: int
    temperature: float
    thresholds: dict[str, float | None] | None  # by label: answer at or above this probability only; null: never; absent: always
    variant: str  # static_int8, dynamic_int8 or float
    batch_invariant: bool  # True: an answer is the same alone and in any batch
    scores: dict[str, Scores]
    provenance: Provenance
    precision: Precision | None = None  # the target that the thresholds were chosen for
    conformal: Conformal | None = None  # for label sets
    label_shares: dict[str, float] | None = None  # mean probability of each label over the held-out texts
    bias: list[float] | None = None  # in label order, added to the logits after the temperature; corrects a prior shift
    machine: Machine | None = None  # the one that computed the golden probabilities
    cascade: Cascade | None = None  # in a bundle with two graphs
    certificate: Certificate | None = None  # of the answers that the thresholds let through
    heads: list[Head] | None = None  # by question, with the settings above for each; None: one choice
    certificates: dict[str, Certificate] | None = None  # of several questions, by question


class Golden(Strict):
    """A text with the probabilities, in label order, that the exporting machine computed with exactly this model file."""

    text: str
    probs: list[float]
    target: str | None = None
    fast_probs: list[float] | None = None  # in a cascade: the fast graph's, whichever graph answers


@dataclass(frozen=True)
class BundleFiles:
    """The files of one version of a bundle, each read once: what was hashed is what is parsed, whatever happens to the folder."""

    folder: Path  # where they were read
    digest: str  # SHA-256 of SHA256SUMS, which covers every file
    contents: dict[str, bytes] = field(repr=False)  # by name, of `PARSED_FILES`
    trust: bool = False  # whoever made them is known: any operator and tokenizer that the libraries know may be in them

    def has(self, name: str) -> bool:
        """Tell whether there is a file of that name among those that are parsed."""
        return name in self.contents

    def read(self, name: str) -> bytes:
        """The bytes of a file; raises FormatError if the bundle has none of that name."""
        if name not in self.contents:
            raise FormatError(self.folder / name, "", "no such file; check the path")
        return self.contents[name]


@dataclass(frozen=True)
class _Folder:
    """A folder whose files have not been checked, as :class:`BundleFiles` gives them."""

    folder: Path

    def has(self, name: str) -> bool:
        """Tell whether the file exists."""
        return (self.folder / name).exists()

    def read(self, name: str) -> bytes:
        """The bytes of a file; raises FormatError."""
        return decode.read_bytes(self.folder / name)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `bundle.json` into a folder that is being filled.

    Heads, certificates and used gold are left out where there are none: versions that do not know them then read the rest.
    """
    content = msgspec.to_builtins(manifest)
    for name in ("heads", "certificate", "certificates"):
        if content[name] is None:
            del content[name]
    if content["provenance"]["used_gold"] is None:
        del content["provenance"]["used_gold"]
    (folder / MANIFEST_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")


def read_manifest(source: Path | BundleFiles) -> Manifest:
    """Read the manifest of a folder, after :func:`verify_files`, or of files that were read; raises FormatError."""
    if isinstance(source, Path) and not any((source / name).exists() for name in (SUMS_FILE, MANIFEST_FILE)):
        raise not_a("bundle", source)
    files = _Folder(source) if isinstance(source, Path) else source
    path = files.folder / MANIFEST_FILE
    manifest = decode.json(path, files.read(MANIFEST_FILE), Manifest, newest=WITH_HEADS)
    wanted = FORMAT if manifest.heads is None else WITH_HEADS
    if manifest.format != wanted:
        raise FormatError(
            path, "format", f"is {manifest.format}; this version reads {wanted}{' with heads' * (wanted == WITH_HEADS)}"
        )
    check_heads(path, manifest)
    if manifest.heads is None:
        check_decision(path, manifest)
        check_bias(path, manifest.labels, manifest.bias)
    elif manifest.cascade is not None or manifest.certificate is not None:
        raise FormatError(path, "heads", "are given with a cascade or `certificate`, which a bundle of one choice alone can have")
    _check_cascade(files, manifest)
    check_certificate(path, manifest.certificate)
    check_certificates(path, manifest.heads or [], manifest.certificates or {})
    return manifest


def _check_cascade(files: BundleFiles | _Folder, manifest: Manifest) -> None:
    """Check that the fast graph is there if and only if the manifest has a cascade, and that its settings are valid."""
    folder, cascade = files.folder, manifest.cascade
    path = folder / MANIFEST_FILE
    for name in (FAST_MODEL_FILE, FAST_TOKENIZER_FILE):
        if files.has(name) != (cascade is not None):
            problem = "has no cascade, but the file is there" if cascade is None else "has a cascade, but the file is missing"
            raise FormatError(folder / name, "", f"{MANIFEST_FILE} {problem}; copy the whole bundle again")
    if cascade is None:
        return
    if not 0 <= cascade.sure <= 1:
        raise FormatError(path, "cascade.sure", f"is {cascade.sure}; it must be from 0 to 1")
    check_confidence(path, "cascade.confidence", cascade.confidence)
    try:
        check_decision(
            path,
            msgspec.structs.replace(
                manifest, temperature=cascade.temperature, thresholds=cascade.thresholds, precision=None, conformal=None
            ),
        )
        check_bias(path, manifest.labels, cascade.bias)
    except FormatError as error:
        raise FormatError(path, f"cascade.{error.place}", error.problem) from None


def write_golden(folder: Path, rows: list[Golden]) -> None:
    """Write `golden.jsonl`, one text per line."""
    (folder / GOLDEN_FILE).write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))


def read_golden(source: Path | BundleFiles) -> list[Golden]:
    """Read the golden texts of a folder, or of files that were read, at least one; raises FormatError."""
    files = _Folder(source) if isinstance(source, Path) else source
    path = files.folder / GOLDEN_FILE
    lines = [line for line in files.read(GOLDEN_FILE).split(b"\n") if line]
    if not lines:
        raise FormatError(path, "", "has no text; export the bundle again")
    if len(lines) > MAX_GOLDEN:
        raise FormatError(path, "", f"has {len(lines)} texts; at most {MAX_GOLDEN} are allowed, export the bundle again")
    rows = [decode.json(path, line, Golden, f"line {number}") for number, line in enumerate(lines, 1)]
    n_chars = sum(golden_chars(row.text) for row in rows)
    if n_chars > MAX_GOLDEN_CHARS:
        raise FormatError(
            path, "", f"has {n_chars} characters to answer; at most {MAX_GOLDEN_CHARS} are allowed, export the bundle again"
        )
    return rows


def golden_chars(text: str) -> int:
    """How many characters of a golden text count against `MAX_GOLDEN_CHARS`."""
    return min(len(text), GOLDEN_TEXT_CHARS)


def check_targets_of_golden(folder: Path, manifest: Manifest, golden: list[Golden]) -> None:
    """Check that every golden text has a target if the task has targets, and none otherwise; raises FormatError."""
    for number, row in enumerate(golden, 1):
        if (row.target is not None) != manifest.target:
            problem = "has a target, but the task has none" if not manifest.target else "has no target, but the task has targets"
            raise FormatError(folder / GOLDEN_FILE, f"line {number}", f"{problem}; export the bundle again")


def write_sums(folder: Path) -> None:
    """Write `SHA256SUMS` for every other file of the folder except a signature; call it last."""
    names = sorted(path.name for path in folder.iterdir() if path.name not in (SUMS_FILE, SIGNATURE_FILE))
    lines = [f"{digest.of_file(folder / name)}  {name}\n" for name in names]
    (folder / SUMS_FILE).write_text("".join(lines), encoding="ascii", newline="\n")


def verify_files(folder: Path) -> None:
    """Check every file of a bundle against `SHA256SUMS`; call it before parsing any of them.

    Raises:
        FormatError: naming the first file that is missing, changed, unlisted, or not a plain file.
    """
    for problem in file_problems(folder):
        raise problem


def file_problems(folder: Path) -> Iterator[FormatError]:
    """Yield an error for each problem with a bundle's files, naming the file; none if every byte is unchanged."""
    descriptor = open_folder(folder)
    if descriptor is None:
        yield not_a("bundle", folder)
        return
    try:
        yield from _problems(folder, descriptor, {}, [])
    finally:
        os.close(descriptor)


def read_files(folder: Path, trust: bool = False) -> BundleFiles:
    """Read a bundle once and check every file; a folder that is exchanged meanwhile is read again.

    The folder is opened first and its files are read through it, so they are of one version even if another one takes its place.

    Args:
        folder: the bundle.
        trust: as :class:`BundleFiles` has it.
    Raises:
        FormatError: naming the first file that is missing, changed, unlisted, or not a plain file.
    """
    problem = not_a("bundle", folder)
    for _ in range(TRIES):
        descriptor = open_folder(folder)
        if descriptor is None:
            raise problem
        contents: dict[str, bytes] = {}
        digests: list[str] = []
        try:
            found = next(_problems(folder, descriptor, contents, digests), None)
            if found is None:
                return BundleFiles(folder, digests[0], contents, trust)
            problem = found
            if is_still_there(folder, descriptor):
                raise problem
        finally:
            os.close(descriptor)
    raise problem


def sums_digest(folder: Path) -> str:
    """SHA-256 of a folder's SHA256SUMS; another digest is another version. Raises OSError if it cannot be read."""
    return digest.of_file(folder / SUMS_FILE)


def _too_large(path: Path) -> FormatError:
    """The error for a file that has more bytes than one of its kind needs."""
    most = MAX_BYTES.get(path.name, MAX_OTHER_BYTES)
    return FormatError(path, "", f"is too large: at most {most} bytes are allowed; export the bundle again")


def _problems(folder: Path, descriptor: int, contents: dict[str, bytes], digests: list[str]) -> Iterator[FormatError]:
    """Yield each problem with the files of an open folder.

    Args:
        folder: for the messages.
        descriptor: of the folder.
        contents: receives the bytes of `PARSED_FILES`.
        digests: receives the SHA-256 of the sums.
    """
    try:
        data = read_plain(descriptor, SUMS_FILE, MAX_BYTES[SUMS_FILE])
    except TooLargeError:
        yield _too_large(folder / SUMS_FILE)
        return
    if data is None:
        yield not_a("bundle", folder)
        return
    digests.append(data[0])
    try:
        sums = read_sums(folder / SUMS_FILE, data[1])
    except FormatError as error:
        yield error
        return
    for name in REQUIRED_FILES:
        if name not in sums:
            yield FormatError(folder / SUMS_FILE, "", f"does not list {name}; export the bundle again")
    for name in sorted(os.listdir(descriptor)):
        if name not in sums and name not in (SUMS_FILE, SIGNATURE_FILE):
            yield FormatError(folder / name, "", f"is not listed in {SUMS_FILE}; remove it, or export the bundle again")
    for name, expected in sums.items():
        try:
            read = read_plain(descriptor, name, MAX_BYTES.get(name, MAX_OTHER_BYTES), keep=name in PARSED_FILES)
        except TooLargeError:
            yield _too_large(folder / name)
            continue
        if read is None:
            problem = f"is missing or not a plain file, but {SUMS_FILE} lists it; copy the whole bundle again"
            yield FormatError(folder / name, "", problem)
        elif read[0] != expected:
            problem = f"was changed: its SHA-256 is {read[0][:12]}…, expected {expected[:12]}…; copy the bundle again"
            yield FormatError(folder / name, "", problem)
        elif name in PARSED_FILES:
            contents[name] = read[1]


def read_sums(path: Path, data: bytes) -> dict[str, str]:
    """SHA-256 by file name; only plain names are accepted, so none leads out of the folder."""
    sums: dict[str, str] = {}
    for number, line in enumerate(decode.utf8(path, data).splitlines(), 1):
        match = _SUM_LINE.fullmatch(line)
        if match is None or match[2] in sums:
            problem = "must be 64 hexadecimal digits, two spaces and a plain file name, each name once"
            raise FormatError(path, f"line {number}", problem)
        sums[match[2]] = match[1]
    return sums
