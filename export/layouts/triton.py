"""The layout of a Triton model repository: `NAME/config.pbtxt` and `NAME/1/model.onnx`, token ids in, probabilities out.

Triton takes no text: the client tokenizes with the `tokenizer.json` beside the repository. `labels.txt` is for Triton's
classification extension.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import onnx

from potstill.contract.bundle import MODEL_FILE, TOKENIZER_FILE, Manifest
from potstill.export.layouts.answer_graph import PROBS, calibrated_probs

CONFIG_FILE, LABELS_FILE, VERSION = "config.pbtxt", "labels.txt", "1"
REPOSITORY = "models"  # the folder that Triton is started on
MAX_BATCH = 8  # texts of one length that Triton may batch where answers do not depend on the batch
MAX_NAME_CHARS = 50  # a DNS label has 63, and KServe adds words of its own


def write_triton(bundle: Path, folder: Path, manifest: Manifest) -> None:
    """Write the model repository and the tokenizer into a folder."""
    model = calibrated_probs(bundle / MODEL_FILE, manifest)
    place = folder / REPOSITORY / model_name(manifest)
    (place / VERSION).mkdir(parents=True)
    (place / VERSION / MODEL_FILE).write_bytes(model.SerializeToString(deterministic=True))
    (place / CONFIG_FILE).write_text(config(model, manifest), encoding="utf-8", newline="\n")
    labels = "".join(" ".join(name.split()) + "\n" for name in manifest.labels)
    (place / LABELS_FILE).write_text(labels, encoding="utf-8", newline="\n")
    shutil.copyfile(bundle / TOKENIZER_FILE, folder / TOKENIZER_FILE)


def model_name(manifest: Manifest) -> str:
    """The task's name as folder and Kubernetes name: lower-case letters, digits and hyphens, with a letter first.

    A name that is too long, or of other scripts, ends in digits of its SHA-256, so that two tasks never get one name.
    """
    name = re.sub(r"[^a-z0-9]+", "-", manifest.name.lower()).strip("-")
    lost = not name or any(character.isalnum() and not character.isascii() for character in manifest.name)
    if not name[:1].isalpha():
        name = f"classifier-{name}".strip("-")
    if lost or len(name) > MAX_NAME_CHARS:
        mark = hashlib.sha256(manifest.name.encode("utf-8", "replace")).hexdigest()[:8]
        name = f"{name[: MAX_NAME_CHARS - 9].rstrip('-')}-{mark}"
    return name


def config(model: onnx.ModelProto, manifest: Manifest) -> str:
    """The content of `config.pbtxt`; dynamic batching is on only where answers do not depend on the batch."""
    inputs = ",\n".join(f'  {{ name: "{node.name}", data_type: TYPE_INT64, dims: [ -1 ] }}' for node in model.graph.input)
    output = f'name: "{PROBS}", data_type: TYPE_FP32, dims: [ {len(manifest.labels)} ], label_filename: "{LABELS_FILE}"'
    batching = "dynamic_batching { }\n" if manifest.batch_invariant else ""
    return (
        f'name: "{model_name(manifest)}"\n'
        'platform: "onnxruntime_onnx"\n'
        f"max_batch_size: {MAX_BATCH if manifest.batch_invariant else 1}\n"
        f"input [\n{inputs}\n]\n"
        f"output [ {{ {output} }} ]\n"
        f"{batching}"
        "instance_group [ { count: 1, kind: KIND_CPU } ]\n"
        'parameters { key: "intra_op_thread_count", value: { string_value: "1" } }\n'
    )


def how_to(manifest: Manifest) -> str:
    """Usage for the card: start Triton and call it."""
    name, pair = model_name(manifest), ', "some target"' if manifest.target else ""
    return "\n".join(
        [
            "```sh",
            f"ORT_DISABLE_TELEMETRY=1 tritonserver --model-repository={REPOSITORY}",
            "```",
            "",
            "```python",
            "import numpy as np, tokenizers, tritonclient.http as triton",
            "",
            f'encoding = tokenizers.Tokenizer.from_file("tokenizer.json").encode("some text"{pair})',
            'values = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask, "token_type_ids": encoding.type_ids}',
            'client = triton.InferenceServerClient("127.0.0.1:8000")',
            "inputs = []",
            f'for node in client.get_model_metadata("{name}")["inputs"]:',
            '    inputs.append(triton.InferInput(node["name"], [1, len(encoding.ids)], "INT64"))',
            '    inputs[-1].set_data_from_numpy(np.array([values[node["name"]]], dtype=np.int64))',
            f'print(client.infer("{name}", inputs).as_numpy("{PROBS}"))',
            "```",
        ]
    )
