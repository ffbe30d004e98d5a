"""A folder with an encoder of `transformers`: what it must hold, its weights in one file or in shards, and their digest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from potstill.contract.errors import FormatError
from potstill.contract.files import decode, digest
from potstill.contract.files.decode import Strict

CONFIG = "config.json"
TOKENIZERS = ("tokenizer.json", "vocab.txt")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first one present is used, as transformers does
INDEX = ".index.json"  # after the name of the weights: the file that says which shard holds which weight
_SAVE = "save the encoder there with save_pretrained()"


class _Index(Strict):
    """An index of shards."""

    weight_map: dict[str, str]  # file of each weight, by the weight's name
    metadata: object = None  # the total size, which is not used


@dataclass(frozen=True)
class Weights:
    """The weights of an encoder folder."""

    file: Path  # the weights, or the index of their shards
    shards: tuple[Path, ...] = ()  # in the order of their names; empty where all weights are in one file

    def sha256(self) -> str:
        """SHA-256 of the file; of shards, that of the digests of index and shards by name. Raises OSError if one is unreadable."""
        if not self.shards:
            return digest.of_file(self.file)
        return digest.of_value({path.name: digest.of_file(path) for path in (self.file, *self.shards)})


def find_weights(folder: Path) -> Weights:
    """Find the weights of an encoder folder.

    Raises:
        FormatError: if the folder lacks a file that an encoder needs, a shard that its index names among them.
    """
    if not folder.is_dir():
        raise FormatError(folder, "", f"is not a folder; a backbone is one with {CONFIG}, {WEIGHTS[0]} and {TOKENIZERS[0]}")
    whole_or_index = [name + ending for name in WEIGHTS for ending in ("", INDEX)]
    for allowed, named in (((CONFIG,), (CONFIG,)), (tuple(whole_or_index), WEIGHTS), (TOKENIZERS, TOKENIZERS)):
        if not any((folder / name).is_file() for name in allowed):
            raise FormatError(folder, "", f"has no {' or '.join(named)}; {_SAVE}")
    file = next(folder / name for name in whole_or_index if (folder / name).is_file())
    return Weights(file, _shards(file) if file.name.endswith(INDEX) else ())


def _shards(index: Path) -> tuple[Path, ...]:
    """The shards that an index names; raises FormatError if it is malformed or one of them is missing."""
    names = sorted(set(decode.json(index, decode.read_bytes(index), _Index).weight_map.values()))
    if not names:
        raise FormatError(index, "weight_map", f"names no file; {_SAVE}")
    for name in names:
        if Path(name).name != name or name in ("", ".", ".."):
            raise FormatError(index, "weight_map", f"names {name!r}; a shard is a file beside the index; {_SAVE}")
    lacking = [name for name in names if not (index.parent / name).is_file()]
    if lacking:
        more = f" and {len(lacking) - 1} more of {len(names)} shards" if len(lacking) > 1 else ""
        raise FormatError(index.parent, "", f"has no {lacking[0]}{more}, which {index.name} names; copy the whole folder again")
    return tuple(index.parent / name for name in names)
