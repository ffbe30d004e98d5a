"""Drawing a path's next token, in C: each path has a chain and a seed of its own."""

from __future__ import annotations

import llama_cpp

TOP_K = 40  # as in the paper's sampling from PaLM's family; it also spares a sort of the whole vocabulary


class Sampler:
    """One path's own chain: temperature, then a draw with its own seed. Freed by :meth:`close`."""

    def __init__(self, temperature: float, seed: int) -> None:
        """Args: temperature above 0; seed from 0 to 2^32 - 1."""
        self.chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        llama_cpp.llama_sampler_chain_add(self.chain, llama_cpp.llama_sampler_init_top_k(TOP_K))
        llama_cpp.llama_sampler_chain_add(self.chain, llama_cpp.llama_sampler_init_temp(temperature))
        llama_cpp.llama_sampler_chain_add(self.chain, llama_cpp.llama_sampler_init_dist(seed))

    def close(self) -> None:
        """Give the chain back; safe to call twice, also after an interrupt in the middle."""
        chain, self.chain = self.chain, None
        if chain:
            llama_cpp.llama_sampler_free(chain)
