"""The program that kills commands a thousand times, in short; what a kill leaves is tested in the rooms of the commands, too."""

import json

import pytest
from kills import KINDS, Round, Tally, kill_all

from potstill.contract.files import atomic

pytestmark = pytest.mark.slow


def test_nothing_is_lost_doubled_or_half_done_whenever_a_command_is_killed(tmp_path):
    file = tmp_path / "tally.json"
    tally = kill_all(Tally(), {"label": 6, "train": 3, "export": 3}, 5, 1e9, lambda: None)
    assert tally.faults == []
    assert tally.kills == {"label": 6, "train": 3, "export": 3}
    tally.write(file)
    assert Tally.read(file) == tally and json.loads(file.read_text())["kills"]["label"] == 6


def test_a_command_that_does_not_write_atomically_is_found_out(tmp_path):
    """A folder that is filled at its place is half there after a kill."""
    half = tmp_path / "bundle"
    half.mkdir()
    (half / "model.onnx").write_bytes(b"half")
    whole = {"bundle/model.onnx": b"whole", "bundle/SHA256SUMS": b"sums"}
    one = Round(KINDS["export"], tmp_path, whole, {}, [])
    assert one.faults_of_folder(0) == ["bundle is neither the old nor the new one: bundle/SHA256SUMS, bundle/model.onnx"]
    atomic.write_file(half / "model.onnx", b"whole")
    (half / ".SHA256SUMS.0123456789ab").write_bytes(b"sums")
    assert one.faults_at_end() == ["bundle/.SHA256SUMS.0123456789ab is left behind", "bundle/SHA256SUMS is missing"]
