"""The float ONNX graph of a checkpoint, as optimum exports it, and its fused form."""

from __future__ import annotations

import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model
from optimum.exporters.onnx import main_export
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from potstill.contract.errors import FormatError
from potstill.networks.register import is_own, register


def trim_position_table(model: onnx.ModelProto, max_tokens: int) -> onnx.ModelProto:
    """The graph with the rows of its position table that the first max_tokens places use; it reads no longer text.

    A table is one of positions where it is gathered by the beginning of constant ids, as in BERT's graphs; where positions
    are counted from the text, as in RoBERTa's, the table stays whole.

    Args:
        model: a float graph; it is left as it was.
        max_tokens: of a text, at least 1.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    constants = tensors | {node.output[0]: value.t for node in graph.node if node.op_type == "Constant" for value in node.attribute}
    readers = Counter(name for node in graph.node for name in node.input)
    slices = {node.output[0]: node for node in graph.node if node.op_type == "Slice"}
    for gather in graph.node:
        if gather.op_type != "Gather" or gather.input[0] not in tensors or gather.input[1] not in slices:
            continue
        name = slices[gather.input[1]].input[0]
        table, places = tensors[gather.input[0]], constants.get(name)
        if places is None or places.data_type != TensorProto.INT64 or readers[name] > 1 or readers[table.name] > 1:
            continue
        ids = numpy_helper.to_array(places)  # [1, places]
        if ids.ndim != 2 or len(ids) != 1 or ids.shape[1] <= max_tokens:
            continue
        kept = ids[:, :max_tokens]
        rows = np.ascontiguousarray(numpy_helper.to_array(table)[: int(kept.max()) + 1])
        places.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(kept), places.name))
        table.CopyFrom(numpy_helper.from_array(rows, table.name))
    return copy


OPSET = 17  # the first with LayerNormalization as one operator
EXAMPLE_LENGTH = 21  # ids of the traced text; any would do, and this one is no multiple of a block


class _Positional(nn.Module):
    """The network with its inputs in a row and its logits alone, as the tracer wants it."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        """Args: names of the inputs in order."""
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *values: Tensor) -> Tensor:
        """Logits float [B, C]."""
        logits: Tensor = self.model(**dict(zip(self.names, values, strict=True))).logits
        return logits


def _trace_own_network(checkpoint: Path) -> onnx.ModelProto:
    """The graph: `input_ids` and `attention_mask` int64 [B, T] in, with `token_type_ids` where there are targets; `logits` out.

    Args:
        checkpoint: a folder with one of the networks of `networks/`, which are registered.
    Raises:
        OSError: if it cannot be read.
    """
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, local_files_only=True, dtype=torch.float32).eval()
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if getattr(model.config, "pair", False) else [])]
    example = {name: torch.zeros((2, EXAMPLE_LENGTH), dtype=torch.int64) for name in names}
    example["attention_mask"] += 1
    file = io.BytesIO()
    torch.onnx.export(
        _Positional(model, names),
        tuple(example.values()),
        file,
        input_names=names,
        output_names=["logits"],
        dynamic_axes={name: {0: "batch", 1: "tokens"} for name in names} | {"logits": {0: "batch"}},
        opset_version=OPSET,
        dynamo=False,
    )
    return onnx.load_model_from_string(file.getvalue())


GRAPH_NAME = "classifier"
CONTRIB_DOMAIN = "com.microsoft"  # the domain of onnxruntime's own operators
# Encoders whose exported attention, layer norms and GELUs have the shapes that onnxruntime's BERT patterns look for.
FUSED_FAMILIES = frozenset({"bert", "distilbert", "roberta", "xlm-roberta", "camembert", "electra"})


def export_float(checkpoint: Path, scratch: Path, max_tokens: int) -> onnx.ModelProto:
    """The checkpoint's classifier as an ONNX graph in float32: ids int64 [B, T] in, `logits` float32 [B, C] out.

    Args:
        checkpoint: a `transformers` folder with a sequence classifier.
        scratch: an empty folder for the exporter's files.
        max_tokens: of a text; places beyond are left out of the graph where that is possible.
    Raises:
        FormatError: if transformers or optimum cannot read or export it.
    """
    register()
    try:
        with quiet(), torch_threads(1):
            if is_own(AutoConfig.from_pretrained(checkpoint, local_files_only=True).model_type):
                return strip_metadata(_trace_own_network(checkpoint))
            main_export(
                str(checkpoint),
                scratch,
                task="text-classification",
                library_name="transformers",
                local_files_only=True,
                do_validation=False,
            )
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0]
        raise FormatError(checkpoint, "", f"is not a sequence classifier that optimum can export: {reason}") from error
    model = onnx.load(scratch / "model.onnx")
    return trim_position_table(strip_metadata(model), max_tokens)


def fuse(model: onnx.ModelProto, checkpoint: Path, scratch: Path) -> onnx.ModelProto | None:
    """The graph with fused attention (MultiHeadAttention), layer norms and GELUs, or None when no pattern for it is known.

    Args:
        model: a float graph; it is left as it was.
        checkpoint: the folder whose config.json describes the model.
        scratch: a folder for intermediate files.
    """
    config = AutoConfig.from_pretrained(checkpoint, local_files_only=True)
    heads, hidden = getattr(config, "num_attention_heads", 0), getattr(config, "hidden_size", 0)
    if config.model_type not in FUSED_FAMILIES or not heads or not hidden:
        return None
    options = FusionOptions("bert")
    options.use_multi_head_attention = True  # the Attention operator has no statically quantized form
    options.enable_embed_layer_norm = False  # it would hide the embedding tables from the quantizer
    path = scratch / "unfused.onnx"
    onnx.save(model, path)
    with quiet():
        fused = optimize_model(
            str(path), "bert", num_heads=heads, hidden_size=hidden, optimization_options=options, opt_level=0
        ).model
    path.unlink()
    if not any(node.op_type == "MultiHeadAttention" for node in fused.graph.node):
        return None
    if not any(opset.domain == CONTRIB_DOMAIN for opset in fused.opset_import):
        fused.opset_import.append(helper.make_opsetid(CONTRIB_DOMAIN, 1))  # the optimizer uses the domain without declaring it
    return fused


def infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with a type and shape for every value, contributed operators included."""
    with quiet():
        inferred: onnx.ModelProto = SymbolicShapeInference.infer_shapes(model, auto_merge=True, guess_output_rank=False)
    return inferred


def strip_metadata(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without what tells two exports apart: documentation strings, metadata and the name that the exporter chose."""
    model.graph.name = GRAPH_NAME
    for holder in (model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        holder.doc_string = ""
        if hasattr(holder, "metadata_props"):
            del holder.metadata_props[:]
    return model


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Let torch use so many threads for a while. One for short texts: more only wait for each other, on a busy machine for long."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporters' chatter off the console; their exceptions pass."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(3)  # its quantizer opens sessions of its own
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
        onnxruntime.set_default_logger_severity(2)  # as it is from the start
