"""Ways to take a teacher's preference for single labels out of its answers without gold, and what else they ask the teacher.

Each way maps the stored log-probabilities of one prompt variant to calibrated ones. Some also need answers of the teacher that no
labelling has: to worked examples that the prompt leaves out in turn (supervised calibration, arXiv:2505.23783), to the worked
examples in the order in which the prompt shows them (surprise, after arXiv:2506.12796), to texts without content (contextual
calibration, arXiv:2102.09690) and to random words of the texts (domain-context calibration, arXiv:2305.19148).

Axes: P paths, V prompt variants, E worked examples, C labels.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp, softmax

from potstill.contract.questions.questionnaire import Questionnaire, load_any_task
from potstill.contract.task import Example, Task
from potstill.labeler.aggregation.calibration import batch_calibrated, label_shift, sharpened
from potstill.labeler.aggregation.gold_calibration import MapPrior, fit
from potstill.labeler.aggregation.path_table import PathTable, label_logprobs
from potstill.labeler.config import LabelConfig, LocalConfig
from potstill.labeler.prompts import plain
from potstill.labeler.prompts.variants import PromptVariant, prompt_variants
from potstill.labeler.teacher import PathRequest, TeacherPath
from potstill.labeler.teachers.local import LocalTeacher
from potstill.labeler.teachers.opening import open_local

Floats = NDArray[np.float64]
POWER = 3.0  # of today's sharpening
POWERS = (1.0, 2.0, 3.0, 4.0, 6.0)
EMPTY = ("N/A", "[MASK]", "...")
N_DOMAIN, MAX_WORDS = 20, 60  # random texts, and their words at most
ONE_THREAD = LocalConfig(n_threads=1, n_batch=512, n_live_paths=16, flash_attention=False)


@dataclass(frozen=True)
class Probes:
    """What the teacher says of one prompt variant beside the texts; log-probabilities, not normalised."""

    labels: NDArray[np.int64]  # [E], of the worked examples
    held_out: Floats  # [E, C], each worked example after a prompt without it
    balanced: Floats  # [E, C], each after a prompt without it and one example of every other label
    in_order: Floats  # [E, C], each after a prompt with those before it alone
    empty: Floats  # [n, C], of texts without content
    domain: Floats  # [n, C], of random words of the texts


Way = Callable[["Answers", Floats], Floats]  # of one set, and the labels' shares, float [C], to log-probabilities, float [P, C]


@dataclass(frozen=True)
class Answers:
    """A set's paths, and the probes of each of its variants, if the teacher was asked for any."""

    table: PathTable
    probes: dict[int, Probes]

    def by_variant(self, way: Callable[[int, Floats], Floats]) -> Floats:
        """What a way makes of each variant's paths, normalised, float [P, C]. Args: way, of variant and float [n, C]."""
        out = np.empty_like(self.table.logprobs)
        for variant in np.unique(self.table.variants).tolist():
            own = self.table.variants == variant
            out[own] = way(variant, self.table.logprobs[own])
        return np.asarray(log_softmax(out, axis=1))


def probed(file: Path, table: PathTable) -> dict[int, Probes]:
    """Ask the embedded teacher for the probes of every variant of a labelling with the default prompt. Args: file, of the task."""
    loaded = load_any_task(file)
    task = loaded.asks()[0].task if isinstance(loaded, Questionnaire) else loaded
    teacher = open_local("smollm2-135m-instruct", config=ONE_THREAD)
    try:
        config = LabelConfig(mode="direct", n_paths=2, n_variants=8)
        variants = prompt_variants(task, config, teacher.identity)
        chosen = plain.example_selections(task, 8, config.n_examples_per_label, config.seed)
        words = _random_texts([text.text for text in table.texts])
        return {v: _probes(teacher, task, variants[v], chosen[v].examples, words) for v in np.unique(table.variants).tolist()}
    finally:
        teacher.close()


def _probes(teacher: LocalTeacher, task: Task, variant: PromptVariant, shown: Sequence[Example], words: Sequence[str]) -> Probes:
    """The probes of one variant."""

    def said(examples: Sequence[Example], texts: Sequence[str]) -> Floats:
        prefix = plain.prefix(task, plain.ExampleSelection(variant.number, tuple(examples)), "direct")
        asked = [PathRequest(str(i), plain.block(task, text, None, "direct"), (variant.number,)) for i, text in enumerate(texts)]
        found = {
            path.text_id: path.word_logprobs
            for path in teacher.answer(prefix, variant.number, asked, variant.spec, 0)
            if isinstance(path, TeacherPath)
        }
        owners = [place for place, label in enumerate(task.labels) for _ in label.spellings]
        return label_logprobs(np.array([found[str(i)] for i in range(len(texts))]), owners, len(task.labels))

    ranks = [sum(other.label == example.label for other in shown[:i]) for i, example in enumerate(shown)]
    balanced = [
        said([other for other, r in zip(shown, ranks, strict=True) if r != ranks[i]], [e.text]) for i, e in enumerate(shown)
    ]
    return Probes(
        labels=np.array([task.label_names.index(example.label) for example in shown]),
        held_out=np.concatenate([said([*shown[:i], *shown[i + 1 :]], [example.text]) for i, example in enumerate(shown)]),
        balanced=np.concatenate(balanced),
        in_order=np.concatenate([said(shown[:i], [example.text]) for i, example in enumerate(shown)]),
        empty=said(shown, EMPTY),
        domain=said(shown, words),
    )


def _random_texts(texts: Sequence[str]) -> list[str]:
    """Random words of the texts, as many as a random text has."""
    rng = random.Random(0)
    words, lengths = [word for text in texts for word in text.split()], [len(text.split()) for text in texts]
    return [" ".join(rng.choice(words) for _ in range(min(rng.choice(lengths), MAX_WORDS))) for _ in range(N_DOMAIN)]


def shifted(power: float, *, steps: bool = True) -> Way:
    """Sharpen, then shift each label to its share: until it is met, or (batch calibration, arXiv:2309.17249) one step of it."""

    def once(logprobs: Floats, shares: Floats) -> Floats:
        sharp = sharpened(logprobs, power)
        return sharp - np.log(np.exp(sharp).mean(axis=0)) + np.log(shares)

    return lambda answers, shares: answers.by_variant(
        lambda _, x: batch_calibrated(sharpened(x, power), shares) if steps else once(x, shares)
    )


def uncalibrated(power: float) -> Way:
    """Sharpened alone."""
    return lambda answers, _: answers.by_variant(lambda _, x: power * x)


def by_probe(power: float, *, domain: bool) -> Way:
    """Divide by what the teacher says of texts without content, or of random words of the texts."""

    def way(answers: Answers, shares: Floats) -> Floats:
        def own(variant: int, logprobs: Floats) -> Floats:
            found = answers.probes[variant].domain if domain else answers.probes[variant].empty
            bias = np.log(softmax(found, axis=1).mean(axis=0))
            return np.asarray(power * (logprobs - bias) + np.log(shares))

        return answers.by_variant(own)

    return way


def on_examples(prior: MapPrior, *, balanced: bool, on_top: bool) -> Way:
    """An affine map fitted on worked examples that prompts leave out in turn.

    Args:
        on_top: whether it maps what is calibrated as today, or the sharpened answers themselves.
    """

    def way(answers: Answers, shares: Floats) -> Floats:
        def own(variant: int, logprobs: Floats) -> Floats:
            found = answers.probes[variant]
            examples = log_softmax(found.balanced if balanced else found.held_out, axis=1)
            sharp, shift = sharpened(logprobs, POWER), np.zeros(len(shares))
            if on_top:
                shift = label_shift(sharp, shares)
            scale, moved = fit(log_softmax(POWER * examples + shift, axis=1), found.labels, prior)
            wanted = 0 if on_top else np.log(shares)
            return np.asarray(scale * log_softmax(sharp + shift, axis=1) + moved + wanted)

        return answers.by_variant(own)

    return way


def by_surprise(rate: float, decay: float, power: float) -> Way:
    """Divide by a preference that grows with each worked example by what the teacher did not expect of it.

    Our reading of surprise calibration with two numbers in place of its recurrent network. All texts of a variant read the same
    examples, so it is one shift for each variant.
    """

    def way(answers: Answers, shares: Floats) -> Floats:
        def own(variant: int, logprobs: Floats) -> Floats:
            found = answers.probes[variant]
            surprise = np.eye(len(shares))[found.labels] - softmax(found.in_order, axis=1)  # [E, C]
            bias = rate * (surprise * decay ** np.arange(len(surprise))[::-1, None]).sum(axis=0)
            return np.asarray(power * (logprobs - bias) + np.log(shares))

        return answers.by_variant(own)

    return way


def by_agreement(answers: Answers, shares: Floats) -> Floats:
    """Sharpen each variant by the power that makes it likeliest that all variants saw the same labels."""
    table, variants = answers.table, np.unique(answers.table.variants).tolist()
    if len(variants) < 2:
        return shifted(POWER)(answers, shares)
    found = {}
    for variant in variants:
        own = table.variants == variant
        for power in POWERS:
            placed = np.empty((len(table.texts), len(shares)))
            placed[table.owners[own]] = batch_calibrated(sharpened(table.logprobs[own], power), shares)
            found[variant, power] = placed
    powers = dict.fromkeys(variants, POWER)

    def likelihood(tried: dict[int, float]) -> float:
        pairs = [(a, b) for a in variants for b in variants if a < b]
        both = [found[a, tried[a]] + found[b, tried[b]] - np.log(shares) for a, b in pairs]
        return float(np.mean([logsumexp(joint, axis=1).mean() for joint in both]))

    for _ in range(3):
        for variant in variants:
            powers[variant] = max(POWERS, key=lambda power, variant=variant: likelihood(powers | {variant: power}))
    return answers.by_variant(lambda variant, x: batch_calibrated(sharpened(x, powers[variant]), shares))


def mixture(*, shape: str, free_shares: bool, steps: int = 50, strength: float = 0.1) -> Way:
    """A normal distribution of the log-odds for each label, by expectation-maximisation from today's calibration on.

    Args:
        shape: of the covariances: `tied`, one for all labels; `diagonal` or `full`, each label its own.
        strength: of the common covariance in each label's own, and of the shares, as a fraction of the texts.
    """

    def own(logprobs: Floats, shares: Floats) -> Floats:
        odds = (logprobs - logprobs.mean(axis=1, keepdims=True))[:, :-1]  # [n, C - 1]
        kept = np.eye(odds.shape[1]) if shape == "diagonal" else np.ones((odds.shape[1], odds.shape[1]))
        extra, weights = strength * len(odds), shares
        common = np.cov(odds.T).reshape(kept.shape) * kept
        belief = np.exp(batch_calibrated(sharpened(logprobs, POWER), shares))
        for _ in range(steps):
            n = belief.sum(axis=0)
            gaps = odds[:, None] - (belief.T @ odds) / n[:, None]  # [n, C, C - 1]
            spread = np.einsum("nc,nci,ncj->cij", belief, gaps, gaps) * kept
            if shape == "tied":
                covariances = np.broadcast_to(spread.sum(axis=0) / len(odds), spread.shape)
            else:
                covariances = (spread + extra * common / len(n)) / (n + extra / len(n))[:, None, None]
            covariances = covariances + 1e-6 * np.eye(odds.shape[1])
            if free_shares:
                weights = (n + extra * shares) / (n.sum() + extra)
            far = np.einsum("nci,cij,ncj->nc", gaps, np.linalg.inv(covariances), gaps)
            evidence = -(far + np.linalg.slogdet(covariances)[1]) / 2
            belief = softmax(evidence + np.log(weights), axis=1)
        return np.asarray(evidence + np.log(shares))

    return lambda answers, shares: answers.by_variant(lambda _, x: own(x, shares))


def families() -> dict[str, dict[str, Way]]:
    """All ways, by family and setting; of a family one setting is chosen on one half of the gold texts. The first is today's."""
    maps = {f"shift's precision {b:g}": MapPrior(10.0, 1e6, b) for b in (0.1, 1.0, 10.0, 100.0)}
    return {
        "as it is": {"": shifted(POWER)},
        "no calibration": {f"power {p:g}": uncalibrated(p) for p in POWERS[:3]},
        "batch calibration, one step": {f"power {p:g}": shifted(p, steps=False) for p in POWERS[:3]},
        "as it is, other powers": {f"power {p:g}": shifted(p) for p in POWERS if p != POWER},
        "powers by agreement": {"": by_agreement},
        "mixture, one shape": {f"free shares {f}": mixture(shape="tied", free_shares=f) for f in (False, True)},
        "mixture, own widths": {f"free shares {f}": mixture(shape="diagonal", free_shares=f) for f in (False, True)},
        "mixture, own shapes": {f"free shares {f}": mixture(shape="full", free_shares=f) for f in (False, True)},
        "texts without content": {f"power {p:g}": by_probe(p, domain=False) for p in POWERS[:3]},
        "random words of the texts": {f"power {p:g}": by_probe(p, domain=True) for p in POWERS[:3]},
        "surprise": {f"rate {r}, decay {d}": by_surprise(r, d, 1.0) for r in (0.25, 1) for d in (0.7, 1)},
        "held-out examples": {name: on_examples(m, balanced=False, on_top=False) for name, m in maps.items()},
        "held-out examples, one of each label": {name: on_examples(m, balanced=True, on_top=False) for name, m in maps.items()},
        "held-out examples, on top": {name: on_examples(m, balanced=False, on_top=True) for name, m in maps.items()},
    }


NEED_PROBES = list(families())[8:]


def averaged(answers: Answers, way: Way, shares: Floats) -> Floats:
    """Mean of each text's calibrated paths, float [N, C], rows sum to 1."""
    sums = answers.table.per_text(np.exp(way(answers, shares)))
    return np.asarray(sums / sums.sum(axis=1, keepdims=True))
