"""Export a checkpoint as a float ONNX graph, and fuse its attention, layer norms and GELUs.

Encoders that transformers knows go through optimum's exporter where it is installed with a transformers that it knows; elsewhere
they are traced here, as the networks of `networks/` always are. Both ways give graphs of the same answers and the same fused forms.
"""

from __future__ import annotations

import importlib.util
import inspect
import io
import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Final, Literal

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers import __version__ as transformers_version

from potstill.contract.errors import FormatError
from potstill.networks.register import is_own, register
from potstill.serve.runtime.session import GRAPH_ERRORS

GRAPH_NAME = "classifier"
CONTRIB_DOMAIN = "com.microsoft"  # onnxruntime's contributed operators
# Model types whose exported attention, layer norms and GELUs match onnxruntime's BERT fusion patterns.
FUSED_FAMILIES = frozenset({"bert", "distilbert", "roberta", "xlm-roberta", "camembert", "electra"})
# Families whose networks have a table of segments and whose tokenizers put every token into the first one.
ONE_SEGMENT = frozenset({"roberta", "xlm-roberta", "camembert"})
OPSET = 17  # the first with a LayerNormalization operator
# What onnxruntime's tools raise on networks that they do not know, a bare Exception aside.
TOOL_ERRORS = (*GRAPH_ERRORS, AssertionError, AttributeError, LookupError, ArithmeticError)
Exporter = Literal["auto", "optimum", "torch"]
AUTO: Final = "auto"  # optimum where it is installed, else torch
OPTIMUM: Final = "optimum"
TORCH: Final = "torch"
NOT_OPTIMUM = 5  # major version of transformers from which on optimum's exporter cannot be imported
EXAMPLE_LENGTH = 21  # tokens of the traced text; any length works, this one is not a multiple of a block


def export_float(checkpoint: Path, scratch: Path, max_tokens: int, exporter: Exporter = AUTO) -> onnx.ModelProto:
    """Export the checkpoint's classifier in float32: ids int64 [B, T] in, `logits` float32 [B, C] out.

    Args:
        checkpoint: a `transformers` folder with a sequence classifier.
        scratch: an empty folder for the exporter's files.
        max_tokens: longest text, in tokens; where possible, later positions are cut from the position table.
        exporter: who writes the graph of an encoder that transformers knows.
    Raises:
        FormatError: if transformers cannot read the checkpoint or the exporter cannot export it.
    """
    register()
    try:
        with quiet(), torch_threads(1):
            own = is_own(AutoConfig.from_pretrained(checkpoint, local_files_only=True).model_type)
            if own or exporter == TORCH or (exporter == AUTO and not has_optimum()):
                model = _trace(checkpoint)
            else:
                model = _ask_optimum(checkpoint, scratch)
    except (OSError, ValueError, KeyError, NotImplementedError, torch.onnx.OnnxExporterError) as error:
        reason = str(error).strip().split("\n")[0]
        raise FormatError(checkpoint, "", f"is not a sequence classifier that can be exported: {reason}") from error
    return strip_metadata(model) if own else trim_position_table(strip_metadata(model), max_tokens)


def has_optimum() -> bool:
    """Whether optimum's exporter is installed and works: none of its releases does beside transformers 5, however it came there."""
    try:
        found = importlib.util.find_spec("optimum.exporters.onnx") is not None
    except ModuleNotFoundError:  # not even optimum itself
        return False
    return found and int(transformers_version.split(".")[0]) < NOT_OPTIMUM


def _ask_optimum(checkpoint: Path, scratch: Path) -> onnx.ModelProto:
    """The graph that optimum's exporter writes into the scratch folder."""
    from optimum.exporters.onnx import main_export  # here, because it is not installed beside transformers 5

    main_export(
        str(checkpoint),
        scratch,
        task="text-classification",
        library_name="transformers",
        local_files_only=True,
        do_validation=False,
    )
    return onnx.load(scratch / "model.onnx")


class _Positional(nn.Module):
    """Wrap the network for the tracer: positional inputs, and only the logits as output."""

    def __init__(self, model: nn.Module, names: list[str], whole_mask: bool) -> None:
        """Args: names, of the inputs, in order; whole_mask, whether the network gets the mask of all pairs of tokens."""
        super().__init__()
        self.model, self.names, self.whole_mask = model, names, whole_mask

    def forward(self, *values: Tensor) -> Tensor:
        """Logits float [B, C]."""
        inputs = dict(zip(self.names, values, strict=True))
        if self.whole_mask:
            inputs["attention_mask"] = _pairs_mask(inputs["attention_mask"])
        logits: Tensor = self.model(**inputs).logits
        return logits


def _pairs_mask(mask: Tensor) -> Tensor:
    """What is added to the attention's scores, float [B, 1, T, T], from a mask of tokens, int [B, T].

    Written as transformers 4 did: onnxruntime's fusions know that pattern, and not the one that transformers 5 traces to.
    """
    n_texts, n_tokens = mask.shape
    hidden = 1.0 - mask[:, None, None, :].expand(n_texts, 1, n_tokens, n_tokens).to(torch.float32)
    return hidden.masked_fill(hidden.to(torch.bool), torch.finfo(torch.float32).min)


def _trace(checkpoint: Path) -> onnx.ModelProto:
    """Trace the network: `input_ids`, `attention_mask` and, where it tells text pairs apart, `token_type_ids` in; `logits` out."""
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, local_files_only=True, dtype=torch.float32).eval()
    whole_mask = model.config.model_type in FUSED_FAMILIES and int(transformers_version.split(".")[0]) >= 5
    if whole_mask:
        model.set_attn_implementation("eager")  # the other way is traced to shapes that no pattern of onnxruntime has
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if _tells_pairs_apart(model) else [])]
    example = {name: torch.zeros((2, EXAMPLE_LENGTH), dtype=torch.int64) for name in names}
    example["attention_mask"] += 1
    file = io.BytesIO()
    torch.onnx.export(
        _Positional(model, names, whole_mask),
        tuple(example.values()),
        file,
        input_names=names,
        output_names=["logits"],
        dynamic_axes={name: {0: "batch", 1: "tokens"} for name in names} | {"logits": {0: "batch"}},
        opset_version=OPSET,
        dynamo=False,
    )
    return onnx.load_model_from_string(file.getvalue())


def _tells_pairs_apart(model: nn.Module) -> bool:
    """Whether the network reads which of two texts a token belongs to, as BERT's does and RoBERTa's does not."""
    if is_own(model.config.model_type):
        return bool(getattr(model.config, "pair", False))
    if model.config.model_type in ONE_SEGMENT:
        return False
    return "token_type_ids" in inspect.signature(model.forward).parameters and getattr(model.config, "type_vocab_size", 0) > 1


def trim_position_table(model: onnx.ModelProto, max_tokens: int) -> onnx.ModelProto:
    """Cut the position table to the rows that the first max_tokens positions use; longer texts no longer fit.

    A table counts as a position table if constant ids gather its rows, as in BERT's graphs. Where the graph computes positions
    from the text, as in RoBERTa's, the table stays whole.

    Args:
        model: a float graph; not changed.
        max_tokens: longest text, in tokens, at least 1.
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


def fuse(model: onnx.ModelProto, checkpoint: Path, scratch: Path) -> onnx.ModelProto | None:
    """Fuse attention (MultiHeadAttention), layer norms and GELUs; None if onnxruntime has no pattern for the network.

    Args:
        model: a float graph; not changed.
        checkpoint: the folder whose config.json describes the model.
        scratch: a folder for intermediate files.
    """
    config = AutoConfig.from_pretrained(checkpoint, local_files_only=True)
    heads, hidden = getattr(config, "num_attention_heads", 0), getattr(config, "hidden_size", 0)
    if config.model_type not in FUSED_FAMILIES or not heads or not hidden:
        return None
    options = FusionOptions("bert")
    options.use_multi_head_attention = True  # the Attention operator cannot be statically quantized
    options.enable_embed_layer_norm = False  # would hide the embedding tables from the quantizer
    path = scratch / "unfused.onnx"
    onnx.save(model, path)
    with quiet(), tool_errors(), temporary_files_in(scratch):
        fused = optimize_model(
            str(path), "bert", num_heads=heads, hidden_size=hidden, optimization_options=options, opt_level=0
        ).model
    path.unlink()
    if not any(node.op_type == "MultiHeadAttention" for node in fused.graph.node):
        return None
    if not any(opset.domain == CONTRIB_DOMAIN for opset in fused.opset_import):
        fused.opset_import.append(helper.make_opsetid(CONTRIB_DOMAIN, 1))  # the optimizer does not declare the domain it uses
    return fused


def infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Infer the type and shape of every value, contributed operators included."""
    with quiet(), tool_errors():
        inferred: onnx.ModelProto = SymbolicShapeInference.infer_shapes(model, auto_merge=True, guess_output_rank=False)
    return inferred


def strip_metadata(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove, in place, what differs between two exports: doc strings, metadata and the exporter's name for the graph."""
    model.graph.name = GRAPH_NAME
    for holder in (model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        holder.doc_string = ""
        if hasattr(holder, "metadata_props"):
            del holder.metadata_props[:]
    return model


class NoFormError(Exception):
    """A library cannot make a form of this network; the message is its reason."""


@contextmanager
def tool_errors() -> Iterator[None]:
    """Turn what onnxruntime's tools raise inside the block into NoFormError."""
    try:
        yield
    except Exception as error:
        if not (type(error) is Exception or isinstance(error, TOOL_ERRORS)):
            raise
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise NoFormError(f"onnxruntime cannot make it of this network ({reason or type(error).__name__})") from error


@contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Let libraries put their temporary files into a folder of ours, which the next export removes if this process is killed."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Set torch's thread count inside the block. Short texts want 1: more threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters' output, logs and warnings inside the block; exceptions pass through."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(3)  # errors only; the quantizer opens sessions of its own
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
        onnxruntime.set_default_logger_severity(2)  # onnxruntime's default: warnings
