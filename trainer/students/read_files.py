"""The files that a training reads beside its task and soft labels, by their digests: a run of others is another run."""

from __future__ import annotations

from pathlib import Path

from potstill.contract.checkpoint import read_student
from potstill.contract.errors import FormatError
from potstill.contract.files import digest
from potstill.models.catalog import encoder_weights
from potstill.trainer.config import TrainConfig
from potstill.trainer.students.start import find_start


def file_digests(config: TrainConfig) -> dict[str, str]:
    """SHA-256 by what it is of: the weights that training starts from, those of the student that answers, the pool.

    Raises:
        UserError, FormatError: if one of them is not there.
    """
    found = {"weights that it starts from": find_start(config).sha256}
    if config.from_student:
        read_student(Path(config.from_student))  # what is no checkpoint is told here
        found["answering student's weights"] = digest.of_file(encoder_weights(Path(config.from_student)))
    if config.pool:
        if not Path(config.pool).exists():
            raise FormatError(config.pool, "", "no such file or folder; check the path of the pool")
        found["pool"] = digest.of_path(Path(config.pool))
    return found
