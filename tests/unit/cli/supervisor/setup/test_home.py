from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.errors import StartRefused
from cli.supervisor.setup.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.make()
    return home


def test_made_for_this_user_alone(home: Home) -> None:
    assert home.path.stat().st_mode & 0o777 == 0o700
    home.make()


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(StartRefused, match="BATON_HOME"):
        Home(tmp_path / "home").make()


def test_one_process_at_a_time(home: Home) -> None:
    assert not home.is_locked
    with home.locked():
        assert home.is_locked
        with pytest.raises(StartRefused, match=f"another `baton up` .process {os.getpid()}"), home.locked():
            pass
    assert not home.is_locked
    with home.locked():
        pass
