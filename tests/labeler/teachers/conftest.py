"""What the tests of teachers behind a server share."""

import pytest


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    """Whoever runs the tests may have a key for a server; none of the servers here gets it."""
    for name in ("POTSTILL_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
