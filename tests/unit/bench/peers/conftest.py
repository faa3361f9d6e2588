"""Fixtures for the tests of bench.peers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.bench.peers.small_model import write_small_model


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("small"))
