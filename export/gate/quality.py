"""The format of `quality.json`: every form that was tried with its measurements, and which one was chosen."""

from __future__ import annotations

import msgspec

from potstill.contract.files.decode import Strict


class QuestionQuality(Strict):
    """Measurements of one form on one of several questions."""

    name: str
    metric: str  # the main metric of its kind
    score: float  # that metric against the teacher's majority answer, on the validation texts that answer the question
    n_validation: int  # these texts
    drop: float  # float's score minus the form's
    drop_low: float  # lower end of its paired 95 % bootstrap interval
    log_loss: float  # against the same, in nats; of tags a tag
    ece: float  # expected calibration error against the same
    n: int  # texts on which answers are compared with float's
    agreement: float  # share of them that keep float's answer; of tags for the tag with the fewest
    flips: int  # texts that change their answer


class FormQuality(Strict):
    """Measurements of one form on the texts of the gate.

    Of several questions: means of score, loss and calibration error, and the worst of all others.
    """

    variant: str
    bytes: int  # size of the model file
    ms_p50: float  # median time of one answer, text to logits on one thread; forms are timed in turns
    n: int  # texts
    macro_f1: float  # against the teacher's majority label, on the validation texts; of several questions their main metrics' mean
    log_loss: float  # against the same, in nats
    ece: float  # expected calibration error against the same
    macro_f1_drop: float  # float's macro-F1 minus the form's
    macro_f1_drop_low: float  # lower end of its paired 95 % bootstrap interval
    agreement: float  # share of the n texts that keep float's label
    flips: int  # texts that change their label
    prob_change_max: float  # largest change of a probability against float
    batch_change_max: float  # largest change of a probability in a batch of texts of equal length
    padding_change_max: float  # largest change of a probability in a padded batch
    operators: dict[str, int]  # count by type in the graph as onnxruntime loads it
    problem: str = ""  # why the form was refused; empty if it passed
    note: str = ""  # limits that a passed form exceeds within chance
    questions: list[QuestionQuality] | None = None  # None: one choice


class PrunedVocabulary(Strict):
    """Effect of a pruned vocabulary on the float form, on the texts of the gate."""

    n_pieces_before: int
    n_pieces: int
    bytes_before: int  # of the float model
    bytes: int
    ms_p50_before: float
    ms_p50: float
    macro_f1_before: float  # on the validation texts
    macro_f1: float
    respelled: int  # texts that are tokenized differently
    flips: int  # texts that change their label
    n: int  # texts


class Quality(Strict):
    """The whole of `quality.json`."""

    variant: str  # the chosen form
    n_validation: int  # gate texts with labels; on the others only the answers of two forms are compared
    n_calibration: int  # texts that activation ranges come from
    torch_change_max: float  # largest change of a probability between torch and the float graph
    max_drop: float
    min_agreement: float
    max_change: float
    flips_explained: int  # changed labels that chance explains, see max_chance_flips in criteria.py
    temperature: float
    onnxruntime: str
    cpu: str
    cpu_flags: list[str]  # those that select kernels, see potstill/contract/system/machine.py
    forms: list[FormQuality]  # float first
    not_tried: dict[str, str] = {}  # reason, by form
    pruned: PrunedVocabulary | None = None  # then all forms are compared with float and its whole vocabulary


def quality_json(quality: Quality) -> bytes:
    """Encode the content of `quality.json`."""
    plain = msgspec.to_builtins(quality)
    for form in plain["forms"]:
        if form["questions"] is None:
            del form["questions"]
    return msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n"
