"""A GGUF model cut into pieces, as llama.cpp's `gguf-split` cuts it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import gguf


def write_pieces(source: Path, folder: Path, n_tensors_each: int, name: str = "model") -> list[Path]:
    """The model in pieces of so many tensors, NAME-00001-of-0000N.gguf and so on; the first one has the header's fields."""
    reader = _reader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(folder / f"{name}.gguf", architecture, split_max_tensors=n_tensors_each)
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            writer.add_key_value(key, field.contents(), field.types[0], field.types[1] if len(field.types) > 1 else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob(f"{name}-*-of-*.gguf"))


@cache  # a vocabulary takes seconds to read
def _reader(source: Path) -> gguf.GGUFReader:
    """The file, open to read."""
    return gguf.GGUFReader(source)
