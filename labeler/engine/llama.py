"""A model and its context over llama.cpp's low-level API: many sequences in one KV cache.

The high-level `Llama` class has one sequence. Here each path is a sequence of its own in a unified cache, so copying a prefix
costs no memory and no time, and one `llama_decode` advances all of them. Sequences are copied and removed whole: llama.cpp
allows no more for recurrent and hybrid models.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import FormatError, UserError
from potstill.contract.system.machine import free_memory_bytes
from potstill.labeler.engine import library as llama_cpp
from potstill.labeler.engine.llama_bindings import (
    NO_HANDLE,
    LongCalls,
    Sampler,
    abort_check_address,
    capture_log,
    clear_errors,
    is_rewritten,
    last_errors,
    model_params,
)
from potstill.labeler.engine.vocabulary import Vocabulary
from potstill.models import gguf
from potstill.models.devices import share_in_ram
from potstill.models.memory import KvType, megabytes, memory_needed

GGML_TYPES: dict[KvType, int] = {"f16": 1, "q8_0": 8}  # in ggml_type
NO_SLOT = 1  # llama_decode: no room in the cache for this batch; nothing was changed


class OutOfCellsError(Exception):
    """The cache has no room for the batch; decode a smaller one, or free sequences first."""


class NoContextError(UserError):
    """llama.cpp cannot make a context of that size: too little memory, or a model that allows fewer sequences."""


@dataclass(frozen=True)
class LoadConfig:
    """Where a model's layers are, and how every context of it keeps keys and values."""

    n_gpu_layers: int = 0
    n_off_ram: int = 0  # of these, layers that take none of the machine's own memory
    kv_type: KvType = "f16"

    @property
    def needs_flash_attention(self) -> bool:
        """Whether llama.cpp makes no context without flash attention: it has no other way to read quantized values."""
        return self.kv_type != "f16"


ON_THE_CPU = LoadConfig()


@dataclass(frozen=True)
class EngineConfig:
    """Size of the context and threads. A cell holds one token of one or more sequences."""

    n_cells: int = 4096
    n_batch: int = 512  # most tokens of one decode; llama.cpp aborts the process if it is below n_sequences
    n_sequences: int = 96  # also the most tokens of one decode that want logits: each costs a row of the vocabulary's size
    n_threads: int = 2
    flash_attention: bool = True  # fast from 64 tokens a decode on, slow below: docs/log.md


@dataclass(frozen=True)
class Token:
    """One token to decode."""

    token: int
    position: int
    sequence: int
    wants_logits: bool = False


class LlamaEngine(Vocabulary):
    """A model and its context. Not thread-safe: one engine, one caller."""

    one_at_a_time = False  # see potstill.labeler.engine.sequences.Sequences

    def __init__(self, model_path: Path, load: LoadConfig = ON_THE_CPU) -> None:
        """Load the weights; :meth:`start` makes the context.

        Raises:
            UserError: if llama.cpp cannot load the file; the message quotes its log. Also if the model writes no text.
        """
        self._path, self.load = model_path, load
        self._context = self._memory = self._batch = NO_HANDLE
        self.config = EngineConfig()
        self._calls = LongCalls()
        capture_log()
        llama_cpp.llama_backend_init()
        clear_errors()
        self._header = _header(model_path)  # once: every context that is measured asks for it
        params = model_params(self._header, load.n_gpu_layers)
        self._model = self._calls.run(llama_cpp.llama_model_load_from_file, str(model_path).encode(), params)
        if not self._model:
            self._calls.close()
            raise UserError(f"{model_path}: llama.cpp cannot load it ({last_errors()}); check it with: potstill models verify")
        super().__init__(llama_cpp.llama_model_get_vocab(self._model))
        if self._stated("attention.causal") == "false":
            self.close()
            raise UserError(f"{model_path}: is an encoder, which reads texts and writes none; a teacher is a model that writes")
        self.n_ctx_train: int = llama_cpp.llama_model_n_ctx_train(self._model)
        self.can_cut = not (llama_cpp.llama_model_is_recurrent(self._model) or llama_cpp.llama_model_is_hybrid(self._model))

    def start(self, config: EngineConfig) -> None:
        """Make an empty context of this size; it replaces an earlier one.

        Raises:
            NoContextError: if the context does not fit in memory, or the model allows fewer sequences.
            ValueError: if n_batch is below n_sequences, or the type of the cache needs flash attention.
        """
        if self.load.needs_flash_attention and not config.flash_attention:
            raise ValueError(f"a cache of {self.load.kv_type} needs flash attention")
        if config.n_batch < config.n_sequences:
            raise ValueError(f"n_batch is {config.n_batch}; it must be at least n_sequences, {config.n_sequences}")
        self._stop()
        self.config = config
        self._check_memory(config)
        clear_errors()
        params = _context_params(config, self.load.kv_type)
        self._context = self._calls.run(llama_cpp.llama_init_from_model, self._model, params)
        if not self._context:
            size = f"{config.n_cells} tokens and {config.n_sequences} sequences"
            raise NoContextError(f"{self._path}: no context of {size} ({last_errors()}); free memory or lower --parallel")
        give_up = llama_cpp.ggml_abort_callback(abort_check_address())
        llama_cpp.llama_set_abort_callback(self._context, give_up, ctypes.addressof(self._calls.flag))
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(config.n_batch, 0, 1)

    def set_threads(self, n_threads: int) -> None:
        """Set the number of threads for later decodes."""
        llama_cpp.llama_set_n_threads(self._context, n_threads, n_threads)
        self.config = replace(self.config, n_threads=n_threads)

    @property
    def n_sequences(self) -> int:
        """Number of sequences that the context can hold."""
        return self.config.n_sequences

    @staticmethod
    def build() -> str:
        """Version of the Python binding, which fixes the version of llama.cpp."""
        return f"llama-cpp-python {llama_cpp.version()}"

    @property
    def chat_template(self) -> str:
        """The Jinja chat template in the model's file; empty if there is none."""
        found = llama_cpp.llama_model_chat_template(self._model, None)
        return (found or b"").decode("utf-8", "replace")

    @property
    def cache_bytes(self) -> int:
        """Size of the KV cache, correct for models whose layers are all attention layers of one size; 0 before :meth:`start`."""
        if not self._context:
            return 0
        width = llama_cpp.llama_model_n_embd(self._model) // llama_cpp.llama_model_n_head(self._model)
        key, value = (self._number(f"attention.{part}_length") or width for part in ("key", "value"))
        n_values = llama_cpp.llama_model_n_layer(self._model) * llama_cpp.llama_model_n_head_kv(self._model) * (key + value)
        return int(llama_cpp.llama_n_ctx(self._context) * n_values * 2)  # 16-bit floats

    def decode(self, tokens: Sequence[Token]) -> list[int]:
        """Run at most n_batch tokens through the model.

        Returns:
            The rows (indices in ``tokens``) with logits, for :meth:`logits` and :meth:`sample`; valid until the next decode.
        Raises:
            OutOfCellsError: if the cache has no room; nothing was changed.
            UserError: if llama.cpp fails.
            KeyboardInterrupt: at once, also in the middle; the content of the cache is then undefined.
        """
        self._fill(tokens)
        clear_errors()
        status = self._calls.run(llama_cpp.llama_decode, self._context, self._batch)
        if status == NO_SLOT:
            raise OutOfCellsError
        if status != 0:
            reason = f"{status}: {last_errors()}"
            raise UserError(f"llama.cpp could not decode ({reason}); paths drawn before are kept, and the same command goes on")
        return [row for row, token in enumerate(tokens) if token.wants_logits]

    def logits(self, row: int) -> NDArray[np.float32]:
        """Logits of a decoded row, float32 [V]; a view that the next decode overwrites."""
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self._context, row), (self.n_vocab,))

    def sample(self, sampler: Sampler, row: int) -> int:
        """Draw a token from a decoded row."""
        return int(llama_cpp.llama_sampler_sample(sampler.chain, self._context, row))

    def fork(self, source: int, target: int) -> None:
        """Make sequence ``target`` a copy of ``source``; in a unified cache no data moves."""
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def free(self, sequence: int) -> None:
        """Remove a sequence. Idle sequences slow down the live ones, so free early."""
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def cut(self, sequence: int, n_tokens: int) -> None:
        """Shorten a sequence to its first ``n_tokens``; only where ``can_cut``."""
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, n_tokens, -1)

    def state(self, sequence: int) -> bytes:
        """The cached state of a sequence, for :meth:`restore` in a context of the same kind."""
        size = llama_cpp.llama_state_seq_get_size(self._context, sequence)
        buffer = (ctypes.c_uint8 * size)()
        n = llama_cpp.llama_state_seq_get_data(self._context, buffer, size, sequence)
        return bytes(memoryview(buffer)[:n])

    def restore(self, state: bytes, sequence: int) -> bool:
        """Load a state into an empty sequence; False, and nothing changed, if llama.cpp rejects it."""
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        n_read = llama_cpp.llama_state_seq_set_data(self._context, buffer, len(state), sequence)
        if n_read and n_read == len(state):
            return True
        self.free(sequence)
        return False

    def close(self) -> None:
        """Free the memory; safe to call twice."""
        self._calls.close()
        self._stop()
        model, self._model = self._model, NO_HANDLE
        if model:
            llama_cpp.llama_model_free(model)

    def _check_memory(self, config: EngineConfig) -> None:
        """Refuse a context that does not fit into the free memory, before the system would kill the process for it."""
        if self._header is None:
            return
        need = memory_needed(
            self._header,
            config.n_cells,
            self.load.kv_type,
            n_sequences=config.n_sequences,
            n_batch=config.n_batch,
            flash_attention=config.flash_attention,
        )
        need = share_in_ram(need, self.load.n_off_ram, self._header)
        if is_rewritten(self._header):
            need = replace(need, weights_bytes=0)  # they are taken already; those of a mapped file still count as free
        free = free_memory_bytes()
        if need.total_bytes > free:
            size = f"{config.n_cells} tokens and {config.n_sequences} sequences"
            short = f"it needs {need.as_text()}, and {megabytes(free)} are free"
            raise NoContextError(f"{self._path}: no context of {size}: {short}; free memory or lower --parallel")

    def _number(self, key: str) -> int:
        """A number from the model's metadata, by its key below the architecture; 0 if it is absent."""
        return int(self._stated(key) or 0)

    def _stated(self, key: str) -> str:
        """A value from the model's metadata, by its key below the architecture; empty if it is absent."""
        name = ctypes.create_string_buffer(64)
        llama_cpp.llama_model_meta_val_str(self._model, b"general.architecture", name, len(name))
        found = ctypes.create_string_buffer(32)
        n = llama_cpp.llama_model_meta_val_str(self._model, b"%s.%s" % (name.value, key.encode()), found, len(found))
        return found.value.decode("utf-8", "replace") if n > 0 else ""

    def _stop(self) -> None:
        """Free the context. Handles are cleared before they are freed: an interrupt in between must not free them twice."""
        context, batch = self._context, self._batch
        self._context = self._batch = NO_HANDLE
        if batch is not NO_HANDLE:
            llama_cpp.llama_batch_free(batch)
        if context:
            llama_cpp.llama_free(context)

    def _fill(self, tokens: Sequence[Token]) -> None:
        """Copy the tokens into llama.cpp's batch."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.logits[i] = token.token, token.position, token.wants_logits
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, token.sequence


def _header(path: Path) -> gguf.Header | None:
    """The file's header; None for a form that llama.cpp may know and we do not."""
    try:
        return gguf.read_header(path)
    except FormatError:
        return None


def _context_params(config: EngineConfig, kv_type: KvType) -> Any:
    """A unified cache, full windows for sliding-window models (a pruned prefix could not be shared), no timing overhead."""
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = config.n_cells
    params.n_batch = params.n_ubatch = config.n_batch
    params.n_seq_max = config.n_sequences
    params.n_threads = params.n_threads_batch = config.n_threads
    params.n_outputs_max = config.n_sequences  # llama.cpp aborts the process below that
    params.flash_attn_type = int(config.flash_attention)
    params.type_k = params.type_v = GGML_TYPES[kv_type]
    params.kv_unified = params.swa_full = params.no_perf = True
    return params
