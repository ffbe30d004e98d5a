"""How much memory a teacher needs, from the header of its GGUF alone: weights, cache of the texts in work, and work space.

What a layer keeps of a token or of a sequence follows llama.cpp's `llama-hparams.cpp`, `llama-kv-cache.cpp` and
`llama-memory-recurrent.cpp`; the work space is a rough upper bound, held against llama.cpp's own account in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from potstill.models.gguf import Header

KvType = Literal["f16", "q8_0"]
KV_TYPES: tuple[str, ...] = get_args(KvType)
KV_BYTES: dict[str, float] = {"f16": 2.0, "q8_0": 34 / 32}  # of one number: a block of 32 with its scale takes 34 bytes
CELL_BLOCK = 256  # llama.cpp rounds the number of cells up to a multiple of it
STATE_BYTES = 4  # recurrent states are 32-bit floats
LAYERS_WITH_CACHE = {"gemma3n": 20}  # of architectures whose later layers read the cache of earlier ones, where no key says so


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a teacher needs in all: its weights, its cache, and its work space."""

    weights_bytes: int
    cache_bytes: int  # keys and values of all cells, and the states of recurrent layers
    compute_bytes: int  # logits and intermediate results of one decode

    @property
    def total_bytes(self) -> int:
        """All three together."""
        return self.weights_bytes + self.cache_bytes + self.compute_bytes

    def as_text(self) -> str:
        """`weights 87 MB, cache 91 MB, work space 60 MB`."""
        parts = (("weights", self.weights_bytes), ("cache", self.cache_bytes), ("work space", self.compute_bytes))
        return ", ".join(f"{name} {megabytes(n)}" for name, n in parts)


def memory_needed(
    header: Header,
    n_cells: int,
    kv_type: KvType = "f16",
    *,
    n_sequences: int = 96,
    n_batch: int = 512,
    flash_attention: bool = True,
) -> MemoryNeed:
    """Estimate the memory of a teacher with a context of that size.

    Args:
        header: of its GGUF file.
        n_cells: tokens that the cache holds, of all sequences together.
        kv_type: type of the cached keys and values; without flash attention llama.cpp keeps values as f16.
        n_sequences: sequences of the context; each has a state in recurrent layers, and a row of logits.
        n_batch: most tokens of one decode.
        flash_attention: whether attention is computed without a matrix of all scores.
    """
    n_cells = -(-n_cells // CELL_BLOCK) * CELL_BLOCK
    cache = n_cells * cell_bytes(header, kv_type, flash_attention) + n_sequences * state_bytes(header)
    return MemoryNeed(header.weights_bytes, int(cache), _compute_bytes(header, n_cells, n_sequences, n_batch, flash_attention))


def cell_bytes(header: Header, kv_type: KvType = "f16", flash_attention: bool = True) -> float:
    """Bytes that one token takes in the cache, over all layers; 0 for a model without attention.

    Args:
        header: of the GGUF file.
        kv_type, flash_attention: see :func:`memory_needed`.
    """
    per_key, per_value = KV_BYTES[kv_type], KV_BYTES[kv_type if flash_attention else "f16"]
    latent = "attention.key_length_mla" in header.sizes  # attention over compressed keys, which stand for the values, too
    total = 0.0
    for layer in range(_n_layers_with_cache(header)):
        if not _keeps_tokens(header, layer):
            continue
        keys, values = (_size(header, "attention.head_count_kv", layer) * n for n in _head_widths(header, layer))
        total += keys * per_key + (0 if latent else values * per_value)
    return total


def state_bytes(header: Header) -> int:
    """Bytes that one sequence takes in the states of recurrent layers, however long it is; 0 for a model without any."""
    n_layers = int(_size(header, "block_count"))
    width, conv = _size(header, "embedding_length"), _size(header, "ssm.conv_kernel")
    inner, state, groups = (_size(header, f"ssm.{name}") for name in ("inner_size", "state_size", "group_count"))
    if head := _size(header, "wkv.head_size"):
        shifts = _size(header, "token_shift_count") or 2
        numbers = width * (shifts + head)
    elif short := _size(header, "shortconv.l_cache"):
        numbers = width * (short - 1)
    elif head := _size(header, "kda.head_dim"):
        heads = _size(header, "attention.head_count")
        numbers = 3 * max(conv - 1, 0) * heads * head + head * head * heads
    else:
        numbers = max(conv - 1, 0) * (inner + 2 * groups * state) + state * inner
    n_recurrent = sum(_has_state(header, layer) for layer in range(n_layers))
    return int(n_recurrent * numbers * STATE_BYTES)


def megabytes(n_bytes: float) -> str:
    """`87 MB`, or `4.1 GB` from 1000 MB on."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


def _compute_bytes(header: Header, n_cells: int, n_sequences: int, n_batch: int, flash_attention: bool) -> int:
    """A rough upper bound on a decode's work space: attention scores, the wider of activations and logits, and logits again."""
    width, heads = _size(header, "embedding_length"), _size(header, "attention.head_count")
    inner = max(_size(header, "feed_forward_length"), 2 * _size(header, "ssm.inner_size"))
    experts = _size(header, "expert_used_count") * _size(header, "expert_feed_forward_length")
    n_masks = 2 if "attention.sliding_window" in header.sizes else 1  # layers with a window have one of their own
    per_cell = 2 * n_masks if flash_attention else 4 * heads + 9 * n_masks  # masks of 16 bits, or all heads' scores and masks
    scores = n_batch * n_cells * per_cell
    if not any(_keeps_tokens(header, layer) for layer in range(_n_layers_with_cache(header))):
        scores = 0
    activations = 4 * n_batch * (8 * width + 3 * max(inner, experts))
    logits = 4 * n_sequences * header.n_vocab
    return int(scores + max(activations, logits) + logits)


def _n_layers_with_cache(header: Header) -> int:
    """Number of layers, from the first one on, that keep keys and values of their own."""
    n_layers = int(_size(header, "block_count"))
    shared = int(_size(header, "attention.shared_kv_layers"))
    return min(LAYERS_WITH_CACHE.get(header.architecture, n_layers), n_layers - shared)


def _keeps_tokens(header: Header, layer: int) -> bool:
    """Whether a layer attends, and so keeps every token."""
    if _size(header, "attention.head_count_kv", layer) == 0:
        return False
    return not _is_recurrent_by_pattern(header, layer)


def _has_state(header: Header, layer: int) -> bool:
    """Whether a layer is a recurrent one; in a model with both kinds, one without attention, or one of each pair."""
    recurrent = any(key in header.sizes for key in ("ssm.conv_kernel", "wkv.head_size", "shortconv.l_cache", "kda.head_dim"))
    if not recurrent:
        return False
    if header.architecture == "falcon-h1":  # every layer is both
        return True
    return _size(header, "attention.head_count_kv", layer) == 0 or _is_recurrent_by_pattern(header, layer)


def _is_recurrent_by_pattern(header: Header, layer: int) -> bool:
    """Whether the file lists the layer as recurrent, or all are but every n-th."""
    if "attention.recurrent_layers" in header.sizes:
        return bool(_size(header, "attention.recurrent_layers", layer))
    interval = int(_size(header, "full_attention_interval"))
    return bool(interval) and (layer + 1) % interval != 0


def _head_widths(header: Header, layer: int) -> tuple[float, float]:
    """Width of a head's key and of its value in that layer; sliding-window layers may have their own."""
    plain = _size(header, "embedding_length") / max(_size(header, "attention.head_count", layer), 1)
    suffix = ""
    if "attention.key_length_swa" in header.sizes and _size(header, "attention.sliding_window_pattern", layer):
        suffix = "_swa"
    key, value = (_size(header, f"attention.{name}_length{suffix}") or plain for name in ("key", "value"))
    return key, value


def _size(header: Header, key: str, layer: int | None = None) -> float:
    """A size of the model, of that layer or the largest of all; 0 where the file does not state it."""
    found = header.sizes.get(key)
    if found is None and key == "attention.head_count_kv":  # which is then as many as there are heads
        return _size(header, "attention.head_count", layer)
    if isinstance(found, tuple):
        if layer is not None:
            return found[layer] if layer < len(found) else 0
        return max(found, default=0)
    return found or 0
