from __future__ import annotations

from pathlib import Path

import pytest

from cli.errors import StartRefused
from cli.supervisor.setup.settings import UpSettings, url_of
from shared.errors import SettingsError
from shared.settings import is_loopback


def test_defaults() -> None:
    read = UpSettings.read({"PATH": "/bin"})
    assert (read.host, read.port, read.flower_port, read.home) == ("127.0.0.1", 8000, 5555, Path(".baton"))
    assert (read.redis_url, read.model, read.devices, read.api_replicas) == ("", "", ("auto",), 1)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org"])
def test_other_machines_need_a_key(host: str) -> None:
    with pytest.raises(StartRefused, match="BATON_API_KEYS"):
        UpSettings.read({"BATON_HOST": host})
    assert UpSettings.read({"BATON_HOST": host, "BATON_API_KEYS": "k"}).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_loopback_needs_none(host: str) -> None:
    assert is_loopback(host)
    assert UpSettings.read({"BATON_HOST": host}).host == host


def test_a_setting_of_any_part_is_checked_before_anything_starts() -> None:
    with pytest.raises(SettingsError, match="BATON_MAX_SLOTS"):
        UpSettings.read({"BATON_MAX_SLOTS": "0"})
    with pytest.raises(SettingsError, match="BATON_PROT"):
        UpSettings.read({"BATON_PROT": "1"})


def test_urls() -> None:
    assert url_of("127.0.0.1", 1) == "http://127.0.0.1:1"
    assert url_of("0.0.0.0", 1) == "http://127.0.0.1:1"
    assert url_of("::", 1) == "http://[::1]:1"
