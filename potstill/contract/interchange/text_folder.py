"""The files of texts in a folder, in the order in which they are read."""

from __future__ import annotations

from pathlib import Path

from potstill.contract.errors import FormatError
from potstill.contract.files import arrow
from potstill.contract.interchange import dataset_folder

STREAMED = (".jsonl", ".jsonl.gz", ".csv", ".parquet")  # kinds that are read row by row


def text_files(path: Path) -> list[Path]:
    """The files of a folder in the order of their names, those in folders below it too; what is not one folder of files is itself.

    Names that begin with a dot or an underscore are passed over. A folder of the `datasets` library is one thing, and so is a file.

    Raises:
        FormatError: if the folder holds no file of texts.
        MissingExtraError: if its first file is a Parquet file, and pyarrow is missing.
    """
    if not path.is_dir() or any((path / name).exists() for name in (dataset_folder.STATE_FILE, dataset_folder.DICT_FILE)):
        return [path]
    found = sorted(
        file for file in path.rglob("*") if is_streamed(file) and not any(part[0] in "._" for part in file.relative_to(path).parts)
    )
    if not found:
        raise FormatError(path, "", f"holds no file of texts; a folder may hold {', '.join(STREAMED)}, or be a datasets folder")
    if found[0].suffix == ".parquet" and dataset_folder.METADATA in arrow.parquet_metadata(found[0]):
        return [path]
    return found


def is_streamed(path: Path) -> bool:
    """Whether a file of this name is read row by row."""
    return path.name.lower().endswith(STREAMED) and path.is_file()
