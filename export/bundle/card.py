"""The bundle's README.md: a model card with labels, scores, usage and origin."""

from __future__ import annotations

from potstill.contract.bundle import Manifest
from potstill.contract.promises.familiarity import Familiarity
from potstill.contract.questions.head import Head
from potstill.contract.questions.question import Question
from potstill.contract.questions.questionnaire import AnyTask, Questionnaire
from potstill.contract.task import Label
from potstill.export.gate.quality import Quality

FILE = "README.md"
_READ_ONE = [  # lines of the example
    'scores = logits / manifest["temperature"] + np.array(manifest["bias"] or 0)',
    "weights = np.exp(scores - scores.max())",
    'print(dict(zip(manifest["labels"], (weights / weights.sum()).tolist())))',
]
_READ_SEVERAL = [
    'for head in manifest["heads"]:',
    '    own, logits = np.split(logits, [len(head["labels"])])',
    '    scores = own / head["temperature"] + np.array(head["bias"] or 0)',
    "    weights = np.exp(scores - scores.max())",
    '    probs = 1 / (1 + np.exp(-scores)) if head["kind"] == "tags" else weights / weights.sum()',
    '    print(head["name"], dict(zip(head["labels"], probs.tolist())))',
]
METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "log_loss": "log-loss (nats)",
    "brier": "Brier score (0 to 2)",
    "ece": "calibration error",
    "auc": "area under the ROC curve",
    "qwk": "quadratic weighted kappa",
    "mae": "mean absolute error of the expected value",
    "micro_f1": "micro-F1",
    "map": "mean average precision",
    "subset_accuracy": "texts with every tag right",
}


def text(task: AnyTask, manifest: Manifest, quality: Quality, familiarity: Familiarity | None = None) -> str:
    """The card. It depends on the bundle's content alone, so every export writes the same."""
    if isinstance(task, Questionnaire):
        about = [part for question in task.questions for part in _question(question)]
        confidence = [line for head in manifest.heads or [] for line in _confidence(head, f" of {head.name}")]
    else:
        about, confidence = [task.question, "", *_labels(task.labels)], _confidence(manifest)
    return "\n".join(
        [
            *_header(manifest),
            f"# {manifest.name}",
            "",
            *about,
            *_scores(manifest, quality),
            *confidence,
            *_familiarity(familiarity),
            *_use(manifest),
            *_origin(manifest),
        ]
    )


def with_usage(card: str, usage: str) -> str:
    """Replace the text under `Use` in a bundle's card."""
    head, _, rest = card.partition("## Use\n")
    _, mark, tail = rest.partition("\n## Origin\n")
    return f"{head}## Use\n\n{usage}\n{mark}{tail}"


def without_metadata(card: str) -> str:
    """A card without the metadata at its head."""
    if not card.startswith("---\n"):
        return card
    return card.partition("\n---\n")[2].lstrip("\n")


def _header(manifest: Manifest) -> list[str]:
    """Metadata for model hubs."""
    tags = ["text-classification", "onnx", "potstill", *(["int8"] if "int8" in manifest.variant else [])]
    return ["---", "library_name: onnx", "pipeline_tag: text-classification", "tags:", *(f"- {tag}" for tag in tags), "---", ""]


def _question(question: Question) -> list[str]:
    """One of several questions, with its labels."""
    lines = [f"## {question.name}", "", f"{question.question.strip()} ({question.kind})", ""]
    if question.kind == "yesno":
        return lines
    return [*lines, *(line.replace("## Labels", "### Labels") for line in _labels(question.labels))]


def _labels(labels: list[Label]) -> list[str]:
    """The labels with their meanings."""
    rows = [f"| `{label.name}` | {_cell(label.meaning)} |" for label in labels]
    return ["## Labels", "", "| label | meaning |", "| --- | --- |", *rows, ""]


def _scores(manifest: Manifest, quality: Quality) -> list[str]:
    """Scores of the shipped form, and a table of all forms."""
    found = [("", manifest.scores), *((f"{head.name}: ", head.scores) for head in manifest.heads or [])]
    rows = [
        f"| {split} | {where}{METRICS.get(name, name)} | {score.as_text()} | {score.n} |"
        for where, by_split in found
        for split, scores in by_split.items()
        for name, score in scores.items()
    ]
    forms = [
        f"| {form.variant} | {form.ms_p50:.2f} | {form.bytes / 1e6:.1f} | {form.macro_f1:.3f} | {form.agreement:.3f} "
        f"| {max(form.batch_change_max, form.padding_change_max):.2g} | {form.problem or 'passed'} |"
        for form in quality.forms
    ]
    return [
        "## Scores",
        "",
        "Against the teacher's majority label, with 95 % bootstrap intervals. Nobody checked these labels by hand.",
        "",
        "| texts | score | value | n |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
        f"This is the form `{manifest.variant}`. All that were tried, on {quality.forms[0].n} texts and {quality.cpu}:",
        "",
        "| form | ms | MB | macro-F1 | same label as float | change in a batch | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *forms,
        "",
    ]


def _confidence(decision: Manifest | Head, of: str = "") -> list[str]:
    """Thresholds for abstaining, or for tags to hold, and the coverage of label sets. Args: of, ends the title."""
    whose = {"gold": "labels that people gave", "teacher": "the teacher's labels, not people's"}
    lines = []
    if decision.precision is not None:
        made = decision.precision
        held = (
            "reached on these texts, which is no bound for others"
            if made.confidence is None
            else f"shown for every label of the checkpoint with a confidence of {made.confidence:g}, and carried over to this form"
        )
        lines.append(
            f"Thresholds were chosen for a precision of {made.wanted:g} on {made.n} texts, by {whose[made.source]}: {held}."
        )
    tags = isinstance(decision, Head) and not decision.is_softmax
    does, never = ("holds", "never holds") if tags else ("answered", "always abstained from")
    for name, least in (decision.thresholds or {}).items():
        lines.append(f"- `{name}`: " + (never if least is None else f"{does} at {least:.3f} and above"))
    if decision.conformal is not None:
        sets = decision.conformal
        lines += [
            "",
            f"Label sets cover {sets.coverage:.0%} of texts like the {sets.n} they were made on, by {whose[sets.source]}: "
            + ("on average." if sets.confidence is None else f"at least, with a confidence of {sets.confidence:g}."),
        ]
    return [f"## Confidence{of}", "", *lines, ""] if lines else []


def _familiarity(known: Familiarity | None) -> list[str]:
    """What the mark of unfamiliar texts promises."""
    if known is None:
        return []
    return [
        "## Texts unlike these",
        "",
        "A text unlike those that the model was made from is marked `unfamiliar`. The threshold was chosen so that on average at "
        f"most {known.rate:.1%} of texts like the {known.n} it was chosen on are marked.",
        "",
    ]


def _use(manifest: Manifest) -> list[str]:
    """How to call the model, with potstill and without."""
    pair = '"some text", "some target"' if manifest.target else '"some text"'
    call = '["some text"], ["some target"]' if manifest.target else '["some text"]'
    return [
        "## Use",
        "",
        "```python",
        "from potstill import Classifier",
        "",
        'with Classifier.open("bundle") as classifier:',
        f"    print(classifier.classify({call}))",
        "```",
        "",
        "Without potstill, with onnxruntime, tokenizers and numpy:",
        "",
        "```python",
        "import json, os",
        "from pathlib import Path",
        "",
        'os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the next line, or onnxruntime reports to its maker',
        "import numpy as np, onnxruntime, tokenizers",
        "",
        'manifest = json.loads(Path("bundle.json").read_text())',
        'session = onnxruntime.InferenceSession("model.onnx")',
        f'encoding = tokenizers.Tokenizer.from_file("tokenizer.json").encode({pair})',
        'values = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask, "token_type_ids": encoding.type_ids}',
        "logits = session.run(None, {node.name: np.array([values[node.name]]) for node in session.get_inputs()})[0][0]",
        *(_READ_ONE if manifest.heads is None else _READ_SEVERAL),
        "```",
        "",
    ]


def _origin(manifest: Manifest) -> list[str]:
    """Training set, backbone and digests."""
    origin = manifest.provenance
    return [
        "## Origin",
        "",
        f"A student of {origin.n_train} texts that a local language model labelled.",
        *([f"{origin.used_gold.as_text()}."] if origin.used_gold else []),
        f"It was fine-tuned from `{origin.backbone}` with the loss `{origin.loss}`.",
        f"Texts are cut at {manifest.max_tokens} tokens. `SHA256SUMS` lists every file; `sha256sum -c SHA256SUMS` checks them.",
        "",
        f"- task: `{origin.task_digest}`",
        f"- teacher: `{origin.teacher_digest}`",
        f"- soft labels: `{origin.soft_labels_digest}`",
        f"- backbone: `{origin.backbone_digest}`",
        "",
    ]


def _cell(words: str) -> str:
    """Words as one line of a Markdown table's cell."""
    return " ".join(words.split()).replace("|", "\\|")
