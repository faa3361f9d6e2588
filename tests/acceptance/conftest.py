"""Whole systems for acceptance tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.system import System
from tests.tiny_chat_model import make_tiny_chat_model

# So that a failed assert of the table tells its values.
pytest.register_assert_rewrite("tests.acceptance.bad_input")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a tiny chat model."""
    return make_tiny_chat_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def system(tiny_model: Path) -> Iterator[System]:
    """One running system, two API replicas and one worker, for all tests that leave it as they found it.

    They may kill a part of it, if they wait until it is back.
    """
    running = System(tiny_model, PING_S="0.05", READER_GRACE_S="2")
    running.start()
    yield running
    running.remove()


@pytest.fixture
def own_system(tiny_model: Path) -> Iterator[System]:
    """A system, not yet started, for a test that stops it."""
    own = System(tiny_model, API_REPLICAS="1")
    yield own
    own.remove()
