"""The format of `quality.json`: every form that was tried with its measurements, and which one was chosen."""

from __future__ import annotations

from potstill.contract.files.decode import Strict


class FormQuality(Strict):
    """Measurements of one form on the texts of the gate."""

    variant: str
    bytes: int  # size of the model file
    ms_p50: float  # median time of one answer, text to logits on one thread; forms are timed in turns
    n: int  # texts
    macro_f1: float  # against the teacher's majority label, on the validation texts
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
