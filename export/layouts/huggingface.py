"""The layout of a Hugging Face model, for optimum's ORTModelForSequenceClassification and transformers pipelines.

The graph has temperature and bias inside, so a pipeline's softmax gives the bundle's probabilities.
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

# transformers reads only configurations of model types that it knows. The graph does the computing, so any known type will do.
STAND_IN = "bert"
# Model types whose positions begin behind the id of the padding token, so that they count that many places more.
AFTER_PADDING = frozenset({"camembert", "longformer", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl"})
OWN_PREFIX = "potstill-"  # of the model types of `networks/`


def write_huggingface(bundle: Path, folder: Path, manifest: Manifest) -> None:
    """Write the calibrated graph, the tokenizer and the configuration into a folder.

    Args:
        bundle: the bundle to package.
        folder: where to write.
        manifest: the bundle's.
    Raises:
        FormatError: if the bundle's `config.json` cannot be read.
    """
    (folder / MODEL_FILE).write_bytes(calibrated_logits(bundle / MODEL_FILE, manifest).SerializeToString(deterministic=True))
    for name in (TOKENIZER_FILE, TOKENIZER_CONFIG_FILE):
        shutil.copyfile(bundle / name, folder / name)
    path = bundle / CONFIG_FILE
    config = decode.json(path, decode.read_bytes(path), dict[str, Any])
    config = with_places(config, manifest.max_tokens)
    if str(config.get("model_type", "")).startswith(OWN_PREFIX):
        config = {**config, "model_type": STAND_IN, "potstill_model_type": config["model_type"]}
        config.pop("architectures", None)
    (folder / CONFIG_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n")


def with_places(config: dict[str, Any], max_tokens: int) -> dict[str, Any]:
    """The configuration with as many positions as the graph takes: an export cuts the table of positions at max_tokens."""
    kind, places = str(config.get("model_type", "")), config.get("max_position_embeddings")
    if kind.startswith(OWN_PREFIX) or not isinstance(places, int):
        return config
    offset = int(config.get("pad_token_id") or 0) + 1 if kind in AFTER_PADDING else 0
    return {**config, "max_position_embeddings": min(places, max_tokens + offset)}


def how_to(manifest: Manifest) -> str:
    """Usage for the card: a transformers pipeline."""
    ask = '{"text": "some text", "text_pair": "some target"}' if manifest.target else '"some text"'
    return "\n".join(
        [
            "```python",
            "import os",
            "",
            'os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the next line, or onnxruntime reports to its maker',
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
