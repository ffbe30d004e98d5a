"""The bundle: a folder that needs only onnxruntime and tokenizers to answer on a CPU (`bundle.json`, format 1).

bundle.json            this file's :class:`Manifest`
model.onnx             token ids in, logits out
tokenizer.json         normalization and truncation included; config.json and tokenizer_config.json for other tools
fast.onnx              in a cascade only: the graph that answers first; with fast_tokenizer.json
golden.jsonl           texts with the probabilities that the exporting machine computed
quality.json           what the export gate measured
README.md              model card
SHA256SUMS             of every other file, as `sha256sum -c SHA256SUMS` reads it
model.sig              a signature, if the folder was signed; the only file that SHA256SUMS does not list
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from potstill.contract.decision import Conformal, LabelSource, Precision, check_bias, check_decision
from potstill.contract.errors import FormatError
from potstill.contract.files import decode, digest
from potstill.contract.files.decode import Strict
from potstill.contract.scores.record import Scores
from potstill.contract.security.signature import SIGNATURE_FILE
from potstill.contract.system.machine import Machine

FORMAT = 1
MANIFEST_FILE, MODEL_FILE, TOKENIZER_FILE = "bundle.json", "model.onnx", "tokenizer.json"
FAST_MODEL_FILE, FAST_TOKENIZER_FILE = "fast.onnx", "fast_tokenizer.json"
GOLDEN_FILE, QUALITY_FILE, SUMS_FILE = "golden.jsonl", "quality.json", "SHA256SUMS"
REQUIRED_FILES = (MANIFEST_FILE, MODEL_FILE, TOKENIZER_FILE, GOLDEN_FILE, QUALITY_FILE)
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
    measure: Literal["macro_f1", "agreement"]  # on gold labels, or with the slow graph's labels
    max_loss: float  # largest accepted loss of that measure
    loss: float  # with the chosen threshold
    loss_held_out: float  # mean over halves of the texts, each with the threshold chosen on the other half
    share: float  # of the texts that the fast graph answered, 0 to 1
    n: int  # number of texts


class Certificate(Strict):
    """What answers at or above a confidence were shown to be right, on texts that nothing was fitted to.

    With the stated confidence, a text like these that is answered is right with at least the stated accuracy.
    """

    accuracy: float  # share of right answers among those given, above 0 and below 1: a lower bound, not an estimate
    confidence: float  # that the bound holds, above 0 and below 1
    sure: float  # an answer is given if its probability is at least this, 0 to 1; otherwise the bundle abstains
    n: int  # number of texts
    n_answered: int
    n_right: int  # of these
    source: LabelSource  # whose labels count as right: "gold" is accuracy, "teacher" agreement with the teacher and no more
    texts_digest: str  # SHA-256 of the texts with their labels
    graph_digest: str  # SHA-256 of model.onnx
    label_shares: dict[str, float]  # of the labels given by `source`, then


class Manifest(Strict):
    """The settings that turn a bundle's logits into an answer, with its scores and its origin."""

    format: int
    name: str
    labels: list[str]  # in output order
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


class Golden(Strict):
    """A text with the probabilities, in label order, that the exporting machine computed with exactly this model file."""

    text: str
    probs: list[float]
    target: str | None = None
    fast_probs: list[float] | None = None  # in a cascade: the fast graph's, whichever graph answers


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `bundle.json` into a folder that is being filled."""
    (folder / MANIFEST_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """Read the bundle's manifest; call :func:`verify_files` first. Raises FormatError."""
    path = folder / MANIFEST_FILE
    manifest = decode.json(path, decode.read_bytes(path), Manifest)
    if manifest.format != FORMAT:
        raise FormatError(path, "format", f"is {manifest.format}; this version reads {FORMAT}")
    check_decision(path, manifest)
    check_bias(path, manifest.labels, manifest.bias)
    _check_cascade(folder, manifest)
    _check_certificate(path, manifest.certificate)
    return manifest


def _check_certificate(path: Path, certificate: Certificate | None) -> None:
    """Check that a certificate's counts and shares can be true."""
    if certificate is None:
        return
    for name in ("accuracy", "confidence"):
        if not 0 < getattr(certificate, name) < 1:
            raise FormatError(path, f"certificate.{name}", f"is {getattr(certificate, name)}; it must be above 0 and below 1")
    if not 0 <= certificate.sure <= 1:
        raise FormatError(path, "certificate.sure", f"is {certificate.sure}; it must be from 0 to 1")
    if not 0 <= certificate.n_right <= certificate.n_answered <= certificate.n:
        found = f"{certificate.n_right} right of {certificate.n_answered} answered of {certificate.n}"
        raise FormatError(path, "certificate", f"says {found}; each must be at most the next")


def _check_cascade(folder: Path, manifest: Manifest) -> None:
    """Check that the fast graph is there if and only if the manifest has a cascade, and that its settings are valid."""
    path, cascade = folder / MANIFEST_FILE, manifest.cascade
    for name in (FAST_MODEL_FILE, FAST_TOKENIZER_FILE):
        if (folder / name).exists() != (cascade is not None):
            problem = "has no cascade, but the file is there" if cascade is None else "has a cascade, but the file is missing"
            raise FormatError(folder / name, "", f"{MANIFEST_FILE} {problem}; copy the whole bundle again")
    if cascade is None:
        return
    if not 0 <= cascade.sure <= 1:
        raise FormatError(path, "cascade.sure", f"is {cascade.sure}; it must be from 0 to 1")
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


def read_golden(folder: Path) -> list[Golden]:
    """Read the golden texts, at least one; raises FormatError."""
    path = folder / GOLDEN_FILE
    lines = [line for line in decode.read_bytes(path).split(b"\n") if line]
    if not lines:
        raise FormatError(path, "", "has no text; export the bundle again")
    return [decode.json(path, line, Golden, f"line {number}") for number, line in enumerate(lines, 1)]


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
    sums_file = folder / SUMS_FILE
    if not folder.is_dir() or sums_file.is_symlink() or not sums_file.is_file():
        yield FormatError(folder, "", f"is not a bundle: it has no {SUMS_FILE}; make one with: potstill export")
        return
    try:
        sums = _read_sums(sums_file)
    except FormatError as error:
        yield error
        return
    for name in REQUIRED_FILES:
        if name not in sums:
            yield FormatError(sums_file, "", f"does not list {name}; export the bundle again")
    for entry in sorted(folder.iterdir()):
        if entry.name not in sums and entry.name not in (SUMS_FILE, SIGNATURE_FILE):
            yield FormatError(entry, "", f"is not listed in {SUMS_FILE}; remove it, or export the bundle again")
    for name, expected in sums.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            yield FormatError(path, "", f"is missing or not a plain file, but {SUMS_FILE} lists it; copy the whole bundle again")
        elif (found := digest.of_file(path)) != expected:
            problem = f"was changed: its SHA-256 is {found[:12]}…, expected {expected[:12]}…; copy the bundle again"
            yield FormatError(path, "", problem)


def _read_sums(path: Path) -> dict[str, str]:
    """Read SHA-256 by file name; only plain names are accepted, so none leads out of the folder."""
    sums: dict[str, str] = {}
    for number, line in enumerate(decode.utf8(path, decode.read_bytes(path)).splitlines(), 1):
        match = _SUM_LINE.fullmatch(line)
        if match is None or match[2] in sums:
            problem = "must be 64 hexadecimal digits, two spaces and a plain file name, each name once"
            raise FormatError(path, f"line {number}", problem)
        sums[match[2]] = match[1]
    return sums
