"""The peers: what each needs, how it is started, asked and read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ONNX = ("onnxruntime==1.31.1", "tokenizers==0.22.2", "numpy==2.4.6")


@dataclass(frozen=True)
class Peer:
    """One way to serve a student.

    `command` follows the Python; {model}, {port}, {texts} and {seconds} are filled in.
    """

    name: str
    command: tuple[str, ...]
    families: tuple[str, ...] = ("encoder", "static")  # of students it can serve
    needs: tuple[str, ...] = ()  # packages of its own environment; none: this Python's
    needs_checkpoint: bool = False  # {model} is the checkpoint, not the bundle
    in_model: bool = False  # it is started in the model's folder
    path: str = "/classify"
    body: Callable[[str], Any] = lambda text: {"text": text}
    label: Callable[[Any], str] = lambda reply: str(reply[0]["label"])
    is_loop: bool = False  # no server: it measures itself and prints JSON

    def arguments(self, **values: object) -> list[str]:
        """Its command without the Python."""
        return [part.format(**values) for part in self.command]

    def request(self, text: str) -> bytes:
        """The body of a request, as JSON."""
        return json.dumps(self.body(text)).encode()


def most_probable(probs: dict[str, float]) -> str:
    """The label with the largest probability."""
    return max(probs, key=lambda name: probs[name])


def tensors(text: str) -> dict[str, Any]:
    """A text in the Open Inference Protocol."""
    return {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}]}


def label_of_tensors(reply: dict[str, Any]) -> str:
    """The label in that protocol's reply."""
    data = {output["name"]: output["data"] for output in reply["outputs"]}
    return most_probable(dict(zip(data["labels"], data["probs"], strict=True)))


PEERS = [
    Peer("loop", (str(HERE / "loop.py"), "{model}", "{texts}", "{seconds}"), is_loop=True),
    Peer(
        "potstill",
        ("-m", "potstill.commands.main", "serve", "{model}", "--port", "{port}"),
        label=lambda reply: str(reply["answer"]["label"]),
    ),
    Peer("fastapi-optimum", (str(HERE / "fastapi_optimum.py"), "{model}", "{port}"), families=("encoder",)),
    Peer("fastapi-torch", (str(HERE / "fastapi_torch.py"), "{model}", "{port}"), families=("encoder",), needs_checkpoint=True),
    Peer(
        "infinity",
        tuple("-m infinity_emb.cli v2 --model-id . --served-model-name student --engine optimum --device cpu".split())
        + tuple("--no-model-warmup --log-level error --host 127.0.0.1 --port {port}".split()),
        families=("encoder",),
        needs=("infinity-emb[optimum,server]==0.0.77", "transformers==4.48.3", "optimum==1.27.0", "torch==2.7.1", ONNX[0]),
        in_model=True,  # given a path, it looks for the path's model.onnx below the path
        body=lambda text: {"model": "student", "input": [text]},
        label=lambda reply: str(max(reply["data"][0], key=lambda row: row["score"])["label"]),
    ),
    Peer(
        "litserve",
        (str(HERE / "litserve_onnx.py"), "{model}", "{port}"),
        needs=("litserve==0.2.19", *ONNX),
        path="/predict",
        label=lambda reply: most_probable(reply["probs"]),
    ),
    Peer(
        "mlserver",
        (str(HERE / "mlserver_onnx.py"), "{model}", "{port}"),
        needs=("mlserver==1.7.1", "uvloop==0.21.0", *ONNX),
        path="/v2/models/student/infer",
        body=tensors,
        label=label_of_tensors,
    ),
    Peer(
        "model2vec",
        (str(HERE / "model2vec_static.py"), "{model}", "{port}"),
        families=("static",),
        needs=("model2vec==0.10.0", "fastapi==0.165.0", "uvicorn==0.54.0", "httptools==0.9.0", "uvloop==0.23.0"),
        needs_checkpoint=True,
    ),
]
