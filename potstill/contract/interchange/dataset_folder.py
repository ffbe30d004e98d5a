"""Folders of the Hugging Face `datasets` library: read those of `Dataset.save_to_disk` and of the Hub, write the former.

`save_to_disk` writes `state.json` (which files), `dataset_info.json` (which features) and the rows as Arrow streams; a
`DatasetDict` is a folder of such folders. A folder of the Hub has Parquet files, each with the features in its metadata. A
`ClassLabel` column has integers, named by the features; -1 is a missing label. Version: datasets 5.2.0,
`src/datasets/arrow_dataset.py` (save_to_disk, load_from_disk) and `features/features.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import arrow, atomic, decode, digest

STATE_FILE, INFO_FILE, DICT_FILE, ROWS_FILE = "state.json", "dataset_info.json", "dataset_dict.json", "data-00000-of-00001.arrow"
METADATA = b"huggingface"  # key of the features in the metadata of an Arrow or Parquet schema
COLUMNS = ("text", "id", "target", "gold")
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_SPLITS = {"train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval", "evaluation"}
_Row = dict[str, Any]


class _File(msgspec.Struct, frozen=True):
    """A file of rows."""

    filename: str


class _State(msgspec.Struct, frozen=True):
    """The parts of `state.json` that matter here."""

    data_files: list[_File] = msgspec.field(name="_data_files")
    indices: list[_File] | None = msgspec.field(name="_indices_data_files", default=None)


class _Info(msgspec.Struct, frozen=True):
    """The parts of `dataset_info.json` that matter here."""

    features: dict[str, Any] | None = None


class _Metadata(msgspec.Struct, frozen=True):
    """The same in the schema of a Parquet file."""

    info: _Info | None = None


def read(path: Path) -> Iterator[tuple[Path, str, _Row]]:
    """Read (file, place, row) for every row of a folder, with the columns of texts and gold labels by name.

    Raises:
        FormatError: if the folder is of neither kind, has several splits, is damaged, or has unknown columns.
        MissingExtraError: without pyarrow.
    """
    if (path / STATE_FILE).is_file():
        return _saved(path)
    if (path / DICT_FILE).is_file() or any(path.glob(f"*/{STATE_FILE}")):
        found = ", ".join(str(state.parent) for state in sorted(path.glob(f"*/{STATE_FILE}")))
        raise FormatError(path, "", f"has several splits; name the folder of one: {found or 'none found'}")
    files = sorted(path.glob("*.parquet"))
    if not files:
        inner = sorted({str(file.parent) for file in path.glob("*/*.parquet")})
        hint = (
            f"name a folder with Parquet files: {', '.join(inner)}"
            if inner
            else f"allowed: a folder with {STATE_FILE}, *.parquet, or files of lines (.jsonl, .jsonl.gz, .csv)"
        )
        raise FormatError(path, "", f"is a folder without texts; {hint}")
    splits = sorted({split for file in files if (split := _split(file.stem))})
    if len(splits) > 1:
        raise FormatError(
            path, "", f"has several splits ({', '.join(splits)}); name one file, or move the files of one split to a folder"
        )
    return (row for file in files for row in texts(file, *arrow.read_parquet_with_metadata(file)))


def texts(path: Path, rows: list[_Row], metadata: dict[bytes, bytes]) -> Iterator[tuple[Path, str, _Row]]:
    """(file, place, row) for every row of a Parquet file whose metadata may have features; raises FormatError."""
    info = decode.json(path, metadata.get(METADATA, b"{}"), _Metadata, "features").info
    return _rows(path, path, rows, (info.features if info else None) or {})


def write(path: Path, columns: dict[str, list[Any]], features: dict[str, _Row]) -> None:
    """Write a folder for `datasets.load_from_disk`, atomically.

    Args:
        path: the folder; an existing one written by `save_to_disk` is replaced.
        columns: values by column name.
        features: by column name, `{"dtype": "string", "_type": "Value"}` or `{"names": [...], "_type": "ClassLabel"}`; values of
            the latter are indices of names.
    Raises:
        UserError: if the folder has other files, or cannot be written.
        MissingExtraError: without pyarrow.
    """
    if path.is_dir() and any(path.iterdir()) and not (path / STATE_FILE).is_file():
        raise UserError(f"{path}: is a folder with other files; name a new one")
    types = {name: feature.get("dtype", "int64") for name, feature in features.items()}
    metadata = {METADATA.decode(): msgspec.json.encode({"info": {"features": features}}).decode()}
    data = arrow.encode_stream(columns, types, metadata)
    state: _Row = {
        "_data_files": [{"filename": ROWS_FILE}],
        "_fingerprint": digest.of_bytes(data)[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    info: _Row = {"citation": "", "description": "", "features": features, "homepage": "", "license": ""}
    with atomic.folder(path) as folder:
        (folder / ROWS_FILE).write_bytes(data)
        for name, content in ((STATE_FILE, state), (INFO_FILE, info)):
            (folder / name).write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2))


def _saved(path: Path) -> Iterator[tuple[Path, str, _Row]]:
    """Read a folder written by `save_to_disk`."""
    state = decode.json(path / STATE_FILE, decode.read_bytes(path / STATE_FILE), _State)
    info = decode.json(path / INFO_FILE, decode.read_bytes(path / INFO_FILE), _Info)
    if state.indices:
        raise FormatError(path, "", "was saved by datasets 1 with an index of rows; load and save it again with a newer version")
    for file in state.data_files:
        if Path(file.filename).name != file.filename:
            raise FormatError(path / STATE_FILE, "_data_files", f"{file.filename!r} is not a file of this folder")
        rows = arrow.read_stream(path / file.filename)
        yield from _rows(path, path / file.filename, rows, info.features or {})


def _rows(path: Path, file: Path, rows: list[_Row], features: dict[str, Any]) -> Iterator[tuple[Path, str, _Row]]:
    """The rows of one file with gold labels by name; without a column `gold`, `label` is the gold label."""
    columns = list(rows[0]) if rows else ["text"]
    gold = "gold" if "gold" in columns or "label" not in columns else "label"
    _check_columns(path, columns, gold)
    feature = features.get(gold)
    names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
    for number, row in enumerate(rows, 1):
        place = f"row {number}"
        text = {key: value for key, value in row.items() if key != gold}
        yield file, place, {**text, "gold": _gold(file, f"{place}: {gold}", row.get(gold), names)}


def _gold(file: Path, place: str, value: Any, names: list[str] | None) -> Any:
    """The name of a class, None for a missing one; a value other than an integer is returned unchanged."""
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if not names:
        column = place.rpartition(" ")[2]
        problem = f"is {value}, but the features name no classes; run: dataset.cast_column({column!r}, ClassLabel(names=[...]))"
        raise FormatError(file, place, problem)
    if value == -1:
        return None
    if not 0 <= value < len(names):
        raise FormatError(
            file,
            place,
            f"is {value}; the features name {len(names)} classes, from 0 to {len(names) - 1}, and -1 is a missing label",
        )
    return names[value]


def _check_columns(path: Path, columns: list[str], gold: str) -> None:
    """Check that there is a column `text` and no unknown column."""
    known = [column for column in columns if column in (*COLUMNS, gold)]
    if "text" not in columns:
        raise FormatError(path, "", f"has no column 'text'; found: {', '.join(columns)}; run: dataset.rename_column(..., 'text')")
    if unknown := [column for column in columns if column not in known]:
        found = ", ".join(map(repr, unknown))
        raise FormatError(path, "", f"has unknown columns: {found}; drop them: dataset.select_columns({known})")


def _split(stem: str) -> str | None:
    """The split in the name of a Hub file, such as `train-00000-of-00002` or `train`; None if there is none."""
    name = _SHARD.sub("", stem)
    return name if name != stem or name in _SPLITS else None
