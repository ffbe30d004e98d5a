"""A bundle's tokenizer and graph in the plainest way, one text at a time; peers that bring no pipeline answer with it."""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer


class BareSession:
    """A bundle held open."""

    def __init__(self, folder: str, threads: int = 1) -> None:
        """Args: of a bundle; threads of the graph for one text."""
        manifest = json.loads((Path(folder) / "bundle.json").read_text())
        self.labels, self.temperature = manifest["labels"], manifest["temperature"]
        self.tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        self.tokenizer.enable_truncation(manifest["max_tokens"])
        self.tokenizer.no_padding()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = ort.InferenceSession(str(Path(folder) / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self.inputs = [one.name for one in self.session.get_inputs()]

    def probs(self, text: str) -> dict[str, float]:
        """Probabilities by label."""
        ids = self.tokenizer.encode(text)
        arrays = {"input_ids": ids.ids, "attention_mask": ids.attention_mask, "token_type_ids": ids.type_ids}
        (logits,) = self.session.run(None, {name: np.array([arrays[name]], dtype=np.int64) for name in self.inputs})
        weights = np.exp((logits[0] - logits[0].max()) / self.temperature)
        return dict(zip(self.labels, (weights / weights.sum()).tolist(), strict=True))
