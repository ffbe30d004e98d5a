"""What the tests of training share, made once for all of them; nobody may change it."""

import pytest
from support.tiny_backbone import trained_student, write_backbone
from support.toy_task import a_task, sure_rows, toy_rows, write_rows


@pytest.fixture(scope="session")
def backbone(tmp_path_factory):
    """The tiny encoder."""
    return write_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="session")
def soft_labels(tmp_path_factory):
    """Soft labels of the toy task, some of them wrong."""
    return write_rows(tmp_path_factory.mktemp("labels") / "soft_labels.jsonl", toy_rows(400, a_task()))


@pytest.fixture(scope="session")
def sure_labels(tmp_path_factory):
    """A folder with soft labels of a teacher that is never wrong: of texts alone, and with a target each."""
    folder = tmp_path_factory.mktemp("labels")
    for target in (False, True):
        write_rows(folder / f"{target}.jsonl", sure_rows(240, a_task(target=target)))
    return folder


@pytest.fixture(scope="session")
def toy_student(tmp_path_factory):
    """(checkpoint, soft-label file) of a student that has learned the toy task."""
    return trained_student(tmp_path_factory.mktemp("toy"))
