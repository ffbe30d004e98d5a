import msgspec
import pytest
from support.toy_task import a_task, quick, toy_rows

from potstill.contract.checkpoint import read_student
from potstill.contract.errors import FormatError, UserError
from potstill.contract.soft_label import read_soft_labels, write_soft_labels
from potstill.contract.texts import read_texts
from potstill.trainer.data.rows import read_trained_rows, select_rows, split_rows
from potstill.trainer.data.selection import split
from potstill.trainer.run import train

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("min_agreement", [0, 0.625, 1])
def test_the_rows_are_those_that_were_trained_on_whatever_the_threshold_was(backbone, tmp_path, min_agreement):
    rows = toy_rows(120, a_task(), votes=(4, 5, 7, 8))
    rows[5] = msgspec.structs.replace(rows[5], votes=dict.fromkeys(rows[5].votes, 0), agreement=0.0)  # no path could label it
    write_soft_labels(tmp_path / "rows.jsonl", rows)
    config = quick(backbone, epochs=1, min_agreement=min_agreement)
    train(a_task(), tmp_path / "rows.jsonl", tmp_path / "student", config)
    found = read_trained_rows(tmp_path / "rows.jsonl", tmp_path / "student", read_student(tmp_path / "student"))
    training, validation = split([row for row in rows if row.id != rows[5].id], config.validation_share)
    assert found.training == [row for row in training if row.agreement >= min_agreement]
    assert found.validation == validation
    assert {text.text for text in read_texts(tmp_path / "student" / "calibration.jsonl").texts} <= {
        row.text for row in found.training
    }


def test_another_file_is_refused(toy_student, tmp_path):
    checkpoint, soft_labels = toy_student
    write_soft_labels(tmp_path / "other.jsonl", read_soft_labels(soft_labels)[:-1])
    message = r"other.jsonl: is not the file that the student was trained on \(SHA-256 [0-9a-f]{12}…, its student.json has [0-9a-f]{12}…\); name"
    with pytest.raises(UserError, match=message):
        read_trained_rows(tmp_path / "other.jsonl", checkpoint, read_student(checkpoint))


def test_a_checkpoint_that_does_not_add_up_is_refused(toy_student):
    checkpoint, soft_labels = toy_student
    student = msgspec.structs.replace(read_student(checkpoint), n_train=500)
    with pytest.raises(
        FormatError, match=r"validation.jsonl: leaves [0-9]+ rows of .* to train on, but student.json has 500; train the"
    ):
        read_trained_rows(soft_labels, checkpoint, student)


def test_a_file_that_is_not_there_is_refused(toy_student):
    with pytest.raises(FormatError, match=r"absent.jsonl: no such file"):
        read_trained_rows(toy_student[1].with_name("absent.jsonl"), toy_student[0], read_student(toy_student[0]))


def unread(row):
    """The row as if no path could label it."""
    return msgspec.structs.replace(row, votes=dict.fromkeys(row.votes, 0), agreement=0.0)


def test_validation_texts_that_no_path_could_label_are_left_out_and_contested_ones_are_not():
    rows = toy_rows(120, a_task(), votes=(4, 8))
    training, validation = split(rows, 0.3)
    found = split_rows("rows.jsonl", [*training, unread(validation[0]), *validation[1:]], 0.3)
    assert (found.training, found.validation) == (training, validation[1:])
    selected, selection = select_rows("rows.jsonl", rows, 0.3, 1.0)
    assert selected.training == selection.kept == [row for row in training if row.agreement == 1]
    assert selected.validation == validation and selection.n_disagreed == len(training) - len(selection.kept) > 0


@pytest.mark.parametrize(("share", "side"), [(0.0001, "validation"), (0.9999, "training")])
def test_an_empty_side_is_refused(share, side):
    with pytest.raises(
        UserError, match=rf"^rows.jsonl: the {side} side of the split is empty \(3 texts, validation share {share}\)"
    ):
        split_rows("rows.jsonl", toy_rows(3, a_task()), share)
