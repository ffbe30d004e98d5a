"""What the tests of the pages do where there is no browser."""

import pytest
from support.browser import MISSING, browser_program


@pytest.fixture
def no_browser(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


def test_without_a_browser_ci_fails_and_says_what_to_install(no_browser, monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception) as failure:
        browser_program()
    assert failure.value.msg == MISSING and MISSING.endswith("apt-get install chromium")


def test_without_a_browser_a_run_outside_ci_skips_with_the_same_line(no_browser, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception) as skipped:
        browser_program()
    assert skipped.value.msg == MISSING
