"""A label whose reply came is in the store, whenever the server is killed."""

import pytest
import server_kills

pytestmark = pytest.mark.slow


def test_no_label_is_lost_or_stored_twice_in_kills_of_the_server(tmp_path):
    found = server_kills.run(4, tmp_path, seed=1, n_texts=400)
    assert found["given"] > 10
    assert (found["lost"], found["repeated"], found["faults"]) == (0, 0, 0)
