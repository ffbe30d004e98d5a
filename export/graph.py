"""The float ONNX graph of a checkpoint, as optimum exports it, and its fused form."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import onnx
import onnxruntime
import torch
from onnx import helper
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model
from optimum.exporters.onnx import main_export
from transformers import AutoConfig

from potstill.contract.errors import FormatError
from potstill.export.own_graph import export_own
from potstill.export.positions import without_unread_positions
from potstill.networks.register import is_own, register

GRAPH_NAME = "classifier"
CONTRIBUTED = "com.microsoft"  # the domain of onnxruntime's own operators
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
                return without_origin(export_own(checkpoint))
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
    return without_unread_positions(without_origin(model), max_tokens)


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
    if not any(opset.domain == CONTRIBUTED for opset in fused.opset_import):
        fused.opset_import.append(helper.make_opsetid(CONTRIBUTED, 1))  # the optimizer uses the domain without declaring it
    return fused


def infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with a type and shape for every value, contributed operators included."""
    with quiet():
        inferred: onnx.ModelProto = SymbolicShapeInference.infer_shapes(model, auto_merge=True, guess_output_rank=False)
    return inferred


def without_origin(model: onnx.ModelProto) -> onnx.ModelProto:
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
