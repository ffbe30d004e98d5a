"""Tiny GGUF models with random weights and a real vocabulary, one for each kind of memory that llama.cpp has.

The output layer, which is the embedding too, favours a few dozen whole words and the line break, so that sampled rationales are words of the vocabulary, tokenize
back to themselves, and end at different lengths.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

WIDTH, FEED_FORWARD, HEADS, WINDOW = 32, 48, 2, 16
CONV, STATE, RANK = 4, 4, 4  # of a Mamba layer
KINDS = {"dense": "llama", "recurrent": "mamba", "hybrid": "jamba", "sliding": "gemma2"}
ATTENTION_LAYERS = {"dense": (0, 1), "recurrent": (), "hybrid": (1, 3), "sliding": (0, 1)}
N_LAYERS = {"dense": 2, "recurrent": 2, "hybrid": 4, "sliding": 2}
WORDS = ("Ġpositive", "Ġnegative", "Ġneutral", "Ċ")
Tensors = dict[str, np.ndarray]


def write_tiny_models(vocabulary: Path, folder: Path) -> None:
    """One model of each kind, named after it, and an encoder, whose tokens attend to later ones.

    Args:
        vocabulary: a GGUF file whose tokenizer they take.
    """
    tokenizer = _tokenizer(vocabulary)
    for kind in KINDS:
        _write(folder / f"{kind}.gguf", kind, tokenizer)
    _write(folder / "encoder.gguf", "dense", tokenizer, causal=False)


def _tokenizer(path: Path) -> dict[str, tuple[Any, ...]]:
    """(value, type, type of its items) of each field of a file's tokenizer; the lists of tokens take a second to read."""
    fields = {name: field for name, field in gguf.GGUFReader(path).fields.items() if name.startswith("tokenizer.ggml.")}
    return {name: (field.contents(), field.types[0], *field.types[1:2]) for name, field in fields.items()}


def _write(path: Path, kind: str, tokenizer: dict[str, tuple[Any, ...]], *, causal: bool = True) -> None:
    """One model."""
    writer = gguf.GGUFWriter(path, KINDS[kind])
    for name, field in tokenizer.items():
        writer.add_key_value(name, *field)
    writer.add_context_length(1024)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(N_LAYERS[kind])
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv([HEADS if i in ATTENTION_LAYERS[kind] else 0 for i in range(N_LAYERS[kind])])
    writer.add_layer_norm_rms_eps(1e-5)
    if not causal:
        writer.add_causal_attention(False)
    if kind == "sliding":
        writer.add_sliding_window(WINDOW)
    if kind in ("recurrent", "hybrid"):
        writer.add_ssm_conv_kernel(CONV)
        writer.add_ssm_inner_size(2 * WIDTH)
        writer.add_ssm_state_size(STATE)
        writer.add_ssm_time_step_rank(RANK)
    for name, values in _tensors(kind, tokenizer["tokenizer.ggml.tokens"][0]).items():
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(kind: str, tokens: list[str]) -> Tensors:
    """All weights, float32, in NumPy's order of axes: the reverse of ggml's."""
    random = np.random.default_rng(list(KINDS).index(kind))
    embedding = random.normal(size=(len(tokens), WIDTH))
    plain = [
        i
        for i, token in enumerate(tokens)
        if token[:1] == "Ġ" and token[1:].isascii() and token[1:].isalpha() and token[1:].islower()
    ]
    favoured = [*plain[:: len(plain) // 40], *(tokens.index(word) for word in WORDS)]
    scale = np.full((len(tokens), 1), 0.02)
    scale[favoured] = 0.5
    found = {"token_embd.weight": embedding * scale, "output_norm.weight": np.ones(WIDTH)}  # the output layer is the embedding
    for layer in range(N_LAYERS[kind]):
        parts = _attention(random) if layer in ATTENTION_LAYERS[kind] else _mamba(random, with_norms=kind == "hybrid")
        if kind != "recurrent":
            parts |= _feed_forward(random)
        if kind == "sliding":
            parts |= {f"post_{name}_norm.weight": np.full(WIDTH, 4.0) for name in ("attention", "ffw")}
        found |= {f"blk.{layer}.{name}": values for name, values in parts.items()}
    return found


def _attention(random: np.random.Generator) -> Tensors:
    """One attention layer, scaled so that what was read matters and rounding does not."""
    scales = {"attn_q": 0.3, "attn_k": 0.3, "attn_v": 0.5, "attn_output": 0.5}
    weights = {f"{name}.weight": random.normal(size=(WIDTH, WIDTH)) * scale for name, scale in scales.items()}
    return {"attn_norm.weight": np.ones(WIDTH)} | weights


def _feed_forward(random: np.random.Generator) -> Tensors:
    """A feed-forward layer."""
    return {
        "ffn_norm.weight": np.ones(WIDTH),
        "ffn_gate.weight": random.normal(size=(FEED_FORWARD, WIDTH)) * 0.2,
        "ffn_up.weight": random.normal(size=(FEED_FORWARD, WIDTH)) * 0.2,
        "ffn_down.weight": random.normal(size=(WIDTH, FEED_FORWARD)) * 0.2,
    }


def _mamba(random: np.random.Generator, with_norms: bool) -> Tensors:
    """A state-space layer that forgets slowly, so that a wrong state shows many tokens later."""
    inner = 2 * WIDTH
    norms = {"ssm_dt_norm.weight": np.ones(RANK), "ssm_b_norm.weight": np.ones(STATE), "ssm_c_norm.weight": np.ones(STATE)}
    return {
        "attn_norm.weight": np.ones(WIDTH),
        "ssm_in.weight": random.normal(size=(2 * inner, WIDTH)) * 0.3,
        "ssm_conv1d.weight": random.normal(size=(inner, CONV)) * 0.5,
        "ssm_conv1d.bias": np.zeros(inner),
        "ssm_x.weight": random.normal(size=(RANK + 2 * STATE, inner)) * 0.3,
        "ssm_dt.weight": random.normal(size=(inner, RANK)) * 0.1,
        "ssm_dt.bias": np.full(inner, -3.0),  # a time step of about 0.05
        "ssm_a": -np.tile(np.arange(1, STATE + 1), (inner, 1)),
        "ssm_d": np.ones(inner),
        "ssm_out.weight": random.normal(size=(WIDTH, inner)) * 0.3,
    } | (norms if with_norms else {})
