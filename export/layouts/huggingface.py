"""The layout of a Hugging Face model: `optimum`'s ORTModelForSequenceClassification and `transformers` pipelines load the folder.

Its graph has the calibration inside, so a pipeline's softmax gives the bundle's probabilities.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec

from potstill.contract.bundle import MODEL_FILE, TOKENIZER_FILE, Manifest
from potstill.contract.files import decode
from potstill.export.layouts.answer_graph import calibrated_logits
from potstill.export.tokenizer.files import CONFIG_FILE, TOKENIZER_CONFIG_FILE

# `transformers` reads a configuration of its own kinds alone. What is computed is in the graph; of a kind only its name is read.
STAND_IN = "bert"
OURS = "potstill-"  # how the kinds of `networks/` begin


def write_huggingface(bundle: Path, folder: Path, manifest: Manifest) -> None:
    """Fill a folder."""
    (folder / MODEL_FILE).write_bytes(calibrated_logits(bundle / MODEL_FILE, manifest).SerializeToString(deterministic=True))
    for name in (TOKENIZER_FILE, TOKENIZER_CONFIG_FILE):
        shutil.copyfile(bundle / name, folder / name)
    path = bundle / CONFIG_FILE
    config = decode.json(path, decode.read_bytes(path), dict[str, Any])
    if str(config.get("model_type", "")).startswith(OURS):
        config = {**config, "model_type": STAND_IN, "potstill_model_type": config["model_type"]}
        config.pop("architectures", None)
    (folder / CONFIG_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n")


def how_to(manifest: Manifest) -> str:
    """Lines of the card that show a call."""
    ask = '{"text": "some text", "text_pair": "some target"}' if manifest.target else '"some text"'
    return "\n".join(
        [
            "```python",
            "from optimum.onnxruntime import ORTModelForSequenceClassification",
            "from transformers import AutoTokenizer, pipeline",
            "",
            'model = ORTModelForSequenceClassification.from_pretrained(".")',
            'tokenizer = AutoTokenizer.from_pretrained(".")',
            'classify = pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)',
            f"print(classify({ask}, truncation=True))",
            "```",
        ]
    )
