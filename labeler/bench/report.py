"""The results of the benchmark: figures for machines, tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from potstill.labeler.bench.adaptive_saving import Saving
from potstill.labeler.bench.memory import Memory
from potstill.labeler.bench.turns import Ratio, Turn, seconds, speed_ratio, time_ratio, tokens_per_s


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures for machines; null for a part that was left out. Ratios are of total times over the same texts."""

    loop_s_per_text: float | None  # all paths of one text, one `create_completion` after the other
    engine_s_per_text: float | None  # all paths of one text, mode `cot`, default packing
    speedup: float | None  # engine over loop
    speedup_same_file: float | None  # engine over loop, both on the file as shipped
    speedup_server: float | None  # engine over llama-server, both on the file as shipped
    adaptive_paths_saved: float | None  # share of the paths, 0 to 1
    direct_speedup: float | None  # mode `direct`, one prompt variant a path, over loop
    efficiency: float | None  # tokens/s of one variant of `direct` over those of llama.cpp's plain prompt processing
    rss_over_mb: float | None  # peak resident memory beyond model file and KV cache, in units of 1,000,000 bytes
    n: int  # texts
    n_paths: int
    threads: int
    tokens_per_s: dict[str, float]  # by part: prompt tokens of the texts and generated tokens, without the shared prefix


@dataclass(frozen=True)
class LabelBenchReport:
    """All measurements."""

    machine: str
    teacher: str
    types: Mapping[str, str]  # of weights, by part
    n: int  # texts
    n_paths: int
    threads: int
    n_per_turn: int  # texts
    server: str  # the server's fastest settings
    turns: Mapping[str, list[Turn]]  # by part
    memory: Mapping[str, Memory]  # by type of weights, the default packing's first
    saving: Saving | None

    @property
    def ratios(self) -> dict[str, Ratio]:
        """Speed of one part relative to another, by the figure's name, where both were measured."""
        found = {
            "speedup": time_ratio(self.turns, "loop", "engine"),
            "speedup_same_file": time_ratio(self.turns, "loop", "same_file"),
            "speedup_q8_0": time_ratio(self.turns, "loop", "q8_0"),
            "speedup_server": time_ratio(self.turns, "server", "same_file"),
            "direct_speedup": time_ratio(self.turns, "loop", "direct"),
            "efficiency": speed_ratio(self.turns, "one_variant", "limit"),
        }
        return {name: ratio for name, ratio in found.items() if ratio}

    @property
    def figures(self) -> Figures:
        """The figures for machines."""
        values = {name: ratio.value for name, ratio in self.ratios.items()}
        return Figures(
            loop_s_per_text=self._s_per_text("loop"),
            engine_s_per_text=self._s_per_text("engine"),
            speedup=values.get("speedup"),
            speedup_same_file=values.get("speedup_same_file"),
            speedup_server=values.get("speedup_server"),
            adaptive_paths_saved=self.saving.paths_saved if self.saving else None,
            direct_speedup=values.get("direct_speedup"),
            efficiency=values.get("efficiency"),
            rss_over_mb=next((memory.over_mb for memory in self.memory.values()), None),
            n=self.n,
            n_paths=self.n_paths,
            threads=self.threads,
            tokens_per_s={name: tokens_per_s(turns) for name, turns in self.turns.items()},
        )

    def as_text(self) -> str:
        """Tables for people."""
        head = [
            f"machine: {self.machine}, threads: {self.threads}",
            f"teacher: {self.teacher}, texts: {self.n}, per turn: {self.n_per_turn}, paths per text: {self.n_paths}",
        ]
        blocks = (head, [*self._speeds()], [*self._ratios()], [*self._memory()], [*self._saving()])
        return "\n\n".join("\n".join(block) for block in blocks if block)

    def _s_per_text(self, part: str) -> float | None:
        """A part's seconds per text."""
        return seconds(self.turns[part]) / self.n if part in self.turns else None

    def _speeds(self) -> Iterator[str]:
        """A line for each part that took turns."""
        names = {
            "loop": "create_completion, one by one",
            "engine": "cot, default packing",
            "same_file": "cot, the file as shipped",
            "q8_0": "cot, packed to Q8_0",
            "server": f"llama-server, {self.server}",
            "direct": f"direct, {self.n_paths} variants",
            "one_variant": "direct, one variant, prefix decoded",
            "limit": "llama.cpp's plain prompt processing",
        }
        if self.turns:
            yield f"{'part':<36}{'weights':<9}{'s/text':>8}{'tokens/s':>10}"
        for part, turns in self.turns.items():
            speeds = f"{seconds(turns) / self.n:8.3f}{tokens_per_s(turns):10.0f}"
            yield f"{names[part]:<36}{self.types[part]:<9}{speeds}"

    def _ratios(self) -> Iterator[str]:
        """A line for each ratio, with its range over the turns."""
        names = {
            "speedup": "cot over create_completion",
            "speedup_same_file": "the same, both on the file as shipped",
            "speedup_q8_0": "the same, ours packed to Q8_0",
            "speedup_server": "cot over llama-server, file as shipped",
            "direct_speedup": "direct over create_completion",
            "efficiency": "direct over plain prompt processing",
        }
        if self.ratios:
            yield f"{'speed':<42}{'of totals':>9}   range over the turns"
        for name, ratio in self.ratios.items():
            yield f"{names[name]:<42}{ratio.value:>8.2f}x   {ratio.low:.2f} to {ratio.high:.2f}"

    def _memory(self) -> Iterator[str]:
        """A line for each type of weights."""
        if self.memory:
            yield f"{'MB, in a fresh process':<24}{'peak':>8}{'file':>8}{'cache':>8}{'beyond both':>13}"
        for kind, memory in self.memory.items():
            sizes = "".join(f"{size / 1e6:8.0f}" for size in (memory.peak_bytes, memory.file_bytes, memory.cache_bytes))
            yield f"{kind:<24}{sizes}{memory.over_mb:13.0f}"

    def _saving(self) -> Iterator[str]:
        """A line about adaptive paths."""
        if self.saving:
            saving = self.saving
            yield f"adaptive paths save {saving.paths_saved:.0%} on {saving.difference.n} gold texts"
            yield f"macro-F1 {saving.adaptive:.3f}, with all paths {saving.fixed:.3f}; difference {saving.difference.as_text()}"
