"""`quality.json`: every form of the model that was tried, which one was chosen, and the evidence."""

from __future__ import annotations

from potstill.contract.files.decode import Strict


class FormQuality(Strict):
    """One form of the model on the gate's texts."""

    variant: str
    bytes: int  # of the model file
    ms_p50: float  # of one answer, text to logits on one thread; forms were measured in turns
    n: int  # texts
    macro_f1: float  # against the soft labels' majority, on the validation texts
    log_loss: float  # against the same, in nats
    ece: float
    macro_f1_drop: float  # below the float graph
    macro_f1_drop_low: float  # lower end of its paired 95 % bootstrap interval
    agreement: float  # share of the n texts with the float graph's label
    flips: int  # texts with another label
    prob_change_max: float  # against the float graph
    batch_change_max: float  # of a probability, from sharing a batch with texts as long as it
    padding_change_max: float  # of a probability, from sharing a batch with longer ones, and being padded
    operators: dict[str, int]  # of the graph as onnxruntime loads it
    problem: str = ""  # why the form was refused; empty if it passed
    note: str = ""  # what a person should know of a form that passed


class PrunedVocabulary(Strict):
    """What leaving pieces out of the vocabulary gave and cost, float against float, on the gate's texts."""

    n_pieces_before: int
    n_pieces: int
    bytes_before: int  # of the float model
    bytes: int
    ms_p50_before: float
    ms_p50: float
    macro_f1_before: float  # on the validation texts
    macro_f1: float
    respelled: int  # texts that get other pieces
    flips: int  # texts that get another label
    n: int  # texts


class Quality(Strict):
    """`quality.json`."""

    variant: str  # the chosen form
    n_validation: int  # of the gate's texts; of the others only the answers of two forms are compared
    n_calibration: int  # texts that activation ranges come from
    torch_change_max: float  # of a probability, between torch and the float graph
    max_drop: float
    min_agreement: float
    max_change: float
    flips_explained: int  # of the gate's texts; more are not chance, see export/gate/gate.py
    temperature: float
    onnxruntime: str
    cpu: str
    cpu_flags: list[str]  # those that choose kernels, see potstill/contract/system/machine.py
    forms: list[FormQuality]
    not_tried: dict[str, str] = {}  # why, by form
    pruned: PrunedVocabulary | None = None  # the other forms are held against the float graph with its whole vocabulary
