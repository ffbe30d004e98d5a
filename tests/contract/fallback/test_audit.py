import os

import msgspec
import pytest

from potstill.contract.errors import FormatError, UserError
from potstill.contract.fallback.audit import AuditFile, AuditRecord, read_audit


def a_record(**changes):
    parts = {"format": 1, "at": 1.5, "bundle": "b", "version": "v", "text": "rise \U0001f680", "probs": {"up": 0.75, "down": 0.25}}
    return AuditRecord(**{**parts, "abstain": False, "teacher": "m", "teacher_probs": {"up": 0.25, "down": 0.75}, **changes})


def test_what_is_added_is_read_again_by_the_owner_alone(tmp_path):
    path, records = tmp_path / "audit.jsonl", [a_record(text=f"text {i}") for i in range(3)]
    previous = os.umask(0)
    try:
        for record in records:  # a server that starts again goes on with the file
            file = AuditFile(path, 10_000)
            assert file.add(record)
            file.close()
    finally:
        os.umask(previous)
    assert path.stat().st_mode & 0o777 == 0o600
    read = read_audit(path)
    assert (read.records, read.n_damaged) == (records, 0)
    assert (records[0].label, records[0].teacher_label, records[0].difference) == ("up", "down", 0.5)


def test_several_writers_mix_no_lines(tmp_path):
    path = tmp_path / "audit.jsonl"
    files = [AuditFile(path, 10**6) for _ in range(3)]
    for i in range(30):
        files[i % 3].add(a_record(text=str(i) * 500))
    for file in files:
        file.close()
    assert [one.text[:1] for one in read_audit(path).records] == [str(i)[0] for i in range(30)]


def test_half_a_line_is_left_out_and_the_next_one_is_whole(tmp_path):
    path = tmp_path / "audit.jsonl"
    whole = msgspec.json.encode(a_record()) + b"\n"
    path.write_bytes(whole + whole[:40])
    path.chmod(0o600)
    file = AuditFile(path, 10_000)
    file.add(a_record(text="later"))
    file.close()
    read = read_audit(path)
    assert ([one.text for one in read.records], read.n_damaged) == ([a_record().text, "later"], 1)


def test_a_full_file_takes_no_more_and_stays_as_it_is(tmp_path):
    path = tmp_path / "audit.jsonl"
    size = len(msgspec.json.encode(a_record())) + 1
    file = AuditFile(path, 2 * size + 5)
    assert [file.add(a_record()) for _ in range(4)] == [True, True, False, False]
    file.close()
    assert path.stat().st_size == 2 * size and len(read_audit(path).records) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.touch(0o640), "others may read it, and an audit holds texts; fix that with: chmod 600"),
        (lambda path: path.mkdir(), "cannot write the audit there: Is a directory"),
        (lambda path: path.symlink_to("/dev/null"), "cannot write the audit there: Too many levels of symbolic links"),
        (lambda path: os.mkfifo(path, 0o600), "is not a plain file"),
    ],
)
def test_a_place_that_is_not_private_is_refused(tmp_path, make, message):
    path = tmp_path / "audit.jsonl"
    make(path)
    with pytest.raises(UserError, match=message):
        AuditFile(path, 100)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "line 1: format: is 2; this version reads 1"),
        ({"probs": {"up": 0.5, "side": 0.5}}, "line 1: teacher_probs: are of other labels"),
        ({"probs": {"up": 0.5, "down": 0.6}}, "line 1: probs: are no distribution"),
        ({"teacher_probs": {"up": -0.5, "down": 1.5}}, "line 1: teacher_probs: are no distribution"),
        ({"text": 7}, "line 1: text"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(tmp_path, changes, message):
    path = tmp_path / "audit.jsonl"
    path.write_bytes(msgspec.json.encode(msgspec.to_builtins(a_record()) | changes) + b"\n")
    with pytest.raises(FormatError, match=message):
        read_audit(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FormatError, match="no such file"):
        read_audit(tmp_path / "none.jsonl")
