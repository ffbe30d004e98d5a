import random
import subprocess

import msgspec
import pytest
from scipy.stats import binomtest
from support.tiny_bundle import LABELS, write_bundle

from potstill.contract.bundle import sums_digest
from potstill.contract.errors import UserError
from potstill.contract.fallback.audit import AuditRecord
from potstill.contract.scores.record import Score
from potstill.contract.texts import read_texts
from potstill.serve.config import AuditConfig
from potstill.serve.offline.audit import Agreement, audit

AGREEMENT = Score(value=0.9, low=0.87, high=0.93, n=400)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundles") / "b", scores={"validation": {"accuracy": AGREEMENT}})


@pytest.fixture
def written(tmp_path, bundle):
    """Writes an audit file with so many texts, of which so many have the same label twice."""

    def write(n, n_same, version=None, **changes):
        rows = []
        for i in range(n):
            probs = {"up": 0.6, "flat": 0.3, "down": 0.1} if i % 2 else {"up": 0.2, "flat": 0.7, "down": 0.1}
            other = probs if i < n_same else {"up": 0.1 + i / (10 * n), "flat": 0.1, "down": 0.8 - i / (10 * n)}
            row = {
                "format": 1, "at": float(i), "bundle": "b", "version": version or sums_digest(bundle)[:12], "text": f"text {i}",
                "probs": probs, "abstain": False, "teacher": "m", "teacher_probs": other,
            }  # fmt: skip
            rows.append(AuditRecord(**row | changes))
        path = tmp_path / "audit.jsonl"
        with path.open("ab") as file:
            file.writelines(msgspec.json.encode(row) + b"\n" for row in rows)
        return path

    return write


@pytest.mark.parametrize(
    ("n", "n_same", "verdict", "broken"),
    [(300, 285, "still holds", False), (300, 210, "no longer holds", True), (20, 18, "too few", False), (1, 0, "too few", False)],
)
def test_the_agreement_is_held_against_what_the_bundle_states(written, bundle, n, n_same, verdict, broken):
    report = audit(written(n, n_same), bundle)
    assert (report.verdict, report.broken, report.total.n, report.total.n_same) == (verdict, broken, n, n_same)
    assert report.floor == pytest.approx(0.85)
    interval = binomtest(n_same, n).proportion_ci(0.95, "exact")
    assert (report.total.low, report.total.high) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert report.n_hard == n - n_same


def test_the_number_of_texts_that_would_decide_does_decide(written, bundle):
    report = audit(written(40, 38), bundle)
    assert report.verdict == "too few" and report.n_needed is not None
    n = report.n_needed
    assert binomtest(round(n * 0.95), n).proportion_ci(0.95, "exact").low >= report.floor
    assert f"too few texts to say; about {n} texts would do if the share stays the same" in report.as_text()
    assert audit(written(0, 0), bundle, config=AuditConfig(stated=1.0)).n_needed is None  # exactly on the floor


def test_an_agreement_at_the_floor_is_seldom_taken_for_another():
    """Each side errs in at most one of forty audits; here in at most twelve of two hundred."""
    rng = random.Random(0)
    found = [Agreement("", 150, sum(rng.random() < 0.85 for _ in range(150)), 0.95) for _ in range(200)]
    assert sum(one.high < 0.85 for one in found) <= 12 and sum(one.low >= 0.85 for one in found) <= 12


def test_without_a_statement_nothing_is_concluded(written, bundle):
    report = audit(written(10, 10))
    assert report.verdict == "nothing stated" and not report.broken
    assert report.as_text().endswith("held against nothing; name the bundle with --bundle, or the agreement with --stated")
    assert audit(written(0, 0), config=AuditConfig(stated=0.4)).verdict == "still holds"


def test_agreement_is_given_by_label_and_for_what_was_answered(written, bundle):
    path = written(10, 6)
    written(4, 0, abstain=True)
    report = audit(path, bundle)
    assert [(one.what, one.n, one.n_same) for one in report.by_label] == [("up", 7, 3), ("flat", 7, 3), ("down", 0, 0)]
    assert (report.answered.n, report.answered.n_same) == (10, 6)
    lines = report.as_text().splitlines()
    assert lines[0] == f"b {sums_digest(bundle)[:12]}: agreement with the teacher" and lines[1].startswith("  all texts: 0.429 [")
    assert "  down: no text" in lines and "8 texts are hard: the two differ, or the bundle is not sure" in lines


def test_the_hard_texts_come_once_the_largest_difference_first_for_potstill_label(tmp_path, written, bundle):
    path, hard = written(10, 6), tmp_path / "hard.jsonl"
    written(10, 6)  # the same texts again
    written(1, 1, text="unsure", abstain=True)
    written(1, 1, text="strange", unfamiliar=True)
    audit(path, bundle, hard)
    texts = [text.text for text in read_texts(hard, labels=LABELS, target=False).texts]
    assert texts == ["text 6", "text 8", "text 7", "text 9", "unsure", "strange"] or set(texts[:4]) == {
        f"text {i}" for i in range(6, 10)
    }
    assert set(texts[4:]) == {"unsure", "strange"} and hard.stat().st_mode & 0o777 == 0o600


def test_only_records_of_the_bundles_version_count(written, bundle):
    path = written(5, 5, version="0" * 12)
    with pytest.raises(UserError, match="holds no record of this version of .*; it has b 000000000000"):
        audit(path, bundle)
    written(3, 3)
    report = audit(path, bundle)
    assert (report.total.n, report.n_others) == (3, 5)
    assert "left out 5 records of other versions" in report.as_text()


def test_a_file_without_a_record_is_named(tmp_path):
    (tmp_path / "audit.jsonl").write_bytes(b'{"half')
    with pytest.raises(UserError, match="holds no record yet; potstill serve --audit writes them"):
        audit(tmp_path / "audit.jsonl")


@pytest.mark.parametrize(
    ("name", "value"), [("confidence", 1.0), ("margin", 1.0), ("margin", -0.1), ("stated", 0.0), ("stated", float("nan"))]
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(UserError, match=f"{name} is {value:g}; it must be"):
        AuditConfig(**{name: value})


def test_the_command_exits_with_one_if_the_agreement_is_gone(written, bundle, console):
    path = written(300, 150)
    done = subprocess.run([*console, "audit", path, "--bundle", bundle], capture_output=True, text=True)
    assert done.returncode == 1 and "at least 0.850 must hold: it no longer holds" in done.stdout
