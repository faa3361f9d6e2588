from __future__ import annotations

from pathlib import Path

import pytest

from cli.errors import StartRefused
from cli.supervisor.redis_version import RedisData, RedisVersion

WHEEL = RedisVersion("redis", 6, 2, 14)


@pytest.mark.parametrize(
    ("server", "data", "reads"),
    [
        (WHEEL, RedisVersion("redis", 6, 2, 99), True),
        (WHEEL, RedisVersion("redis", 7, 0), False),
        (RedisVersion("redis", 7, 4), RedisVersion("redis", 6, 2), True),
        (RedisVersion("valkey", 8, 0), RedisVersion("redis", 7, 2, 4), True),
        (RedisVersion("valkey", 8, 0), RedisVersion("redis", 7, 4), False),
        (RedisVersion("redis", 8, 0), RedisVersion("valkey", 8, 0), False),
        (RedisVersion("valkey", 8, 0), RedisVersion("valkey", 8, 1), False),
    ],
)
def test_a_server_reads_what_older_ones_of_its_kind_wrote(
    server: RedisVersion, data: RedisVersion, reads: bool
) -> None:
    assert server.reads(data) is reads


def test_the_version_stands_beside_the_data(tmp_path: Path) -> None:
    data = RedisData(tmp_path)
    assert data.written_by is None
    data.keep_version(WHEEL)
    assert data.written_by == WHEEL
    (tmp_path / "appendonlydir").mkdir()
    assert data.written_by == WHEEL
    (tmp_path / "version").write_text("?")
    assert data.written_by is None


def test_what_does_not_run_or_is_no_redis(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="does not run"):
        RedisVersion.of(str(tmp_path / "none"))
    with pytest.raises(StartRefused, match="is no Redis"):
        RedisVersion.of("/bin/echo")


def test_an_empty_directory_is_fine(tmp_path: Path) -> None:
    RedisData(tmp_path).check()


def test_no_start_is_empty_without_a_word(tmp_path: Path) -> None:
    data = RedisData(tmp_path)
    (tmp_path / "dump.rdb").touch()
    with pytest.raises(StartRefused, match=r"dump\.rdb"):
        data.check()
    (tmp_path / "dump.rdb").unlink()
    data.keep_version(WHEEL)
    with pytest.raises(StartRefused, match=r"no append-only file now"):
        data.check()
    (tmp_path / "appendonly.aof").touch()
    data.check()
    (tmp_path / "appendonlydir").mkdir()
    with pytest.raises(StartRefused, match="two versions"):
        data.check()
