"""A label whose reply came is in the store, whenever the server or the browser is killed."""

import browser_kills
import pytest
import server_kills
from support.browser import browser_program

pytestmark = pytest.mark.slow


def test_no_label_is_lost_or_stored_twice_in_kills_of_the_server(tmp_path):
    found = server_kills.run(4, tmp_path, seed=1, n_texts=2_500)  # more than can be labelled before the last kill
    assert found["given"] > 10
    assert (found["lost"], found["repeated"], found["faults"]) == (0, 0, 0)


def test_no_label_is_lost_or_stored_twice_in_kills_of_the_browser(tmp_path):
    browser_program()  # skips, or fails in CI, where there is none
    found = browser_kills.run(3, tmp_path, seed=1, n_texts=400)
    assert found["given"] > 3
    assert (found["lost"], found["stored twice"], found["faults"], found["notes back"]) == (0, 0, 0, 0)
