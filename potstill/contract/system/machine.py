"""What a bundle's golden probabilities were computed on, and how another machine differs from that."""

from __future__ import annotations

from pathlib import Path

from potstill.contract.files.decode import Strict

# Instruction sets by which onnxruntime picks a kernel, as /proc/cpuinfo names them; whatever else a CPU has changes no number.
KERNEL_FLAGS = frozenset(
    "avx avx2 fma avx_vnni avx512f avx512bw avx512_vnni avx512_bf16 amx_int8 amx_tile amx_bf16 "  # x86
    "asimd asimddp asimdhp i8mm bf16 sve sve2 svei8mm sme sme2".split()  # ARM
)


class Machine(Strict):
    """Versions and CPU, as far as they can move the last bits of a probability."""

    onnxruntime: str
    tokenizers: str
    numpy: str
    cpu: str  # model name, or the architecture
    flags: list[str]  # those of KERNEL_FLAGS that the CPU has, sorted


def difference(made: Machine, here: Machine) -> str:
    """What differs between two machines, in words; empty if nothing does that could move a probability."""
    told = [
        f"{name} is {getattr(here, name)}, the bundle was made with {getattr(made, name)}"
        for name in ("onnxruntime", "tokenizers", "numpy")
        if getattr(here, name) != getattr(made, name)
    ]
    lacks, adds = sorted(set(made.flags) - set(here.flags)), sorted(set(here.flags) - set(made.flags))
    if lacks or adds:
        of = f"the kernels are those of {here.cpu}, the bundle was made on {made.cpu}"
        parts = [f"without {', '.join(lacks)}"] if lacks else []
        parts += [f"with {', '.join(adds)}"] if adds else []
        told.append(f"{of} ({'; '.join(parts)})")
    return "; ".join(told)


def cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, list[str]]:
    """The CPU's model name (empty if the file does not say) and its flags among `KERNEL_FLAGS`, sorted."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "", []
    values = {name.strip(): value.strip() for name, _, value in reversed([line.partition(":") for line in lines])}
    flags = values.get("flags", values.get("Features", "")).split()
    return values.get("model name", ""), sorted(KERNEL_FLAGS & set(flags))
