"""A process whose Redis refuses its password says so and ends; while it runs, it waits."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from shared.runtime.exit_codes import EX_CONFIG
from tests.free_port import free_port
from tests.redis_proxy import RedisProxy, Refuse
from tests.redis_server import RedisServer


@pytest.mark.parametrize("module", ["api.main", "workers.main", "cli.flower_entry"])
def test_a_wrong_password_is_one_line_and_78(redis_server: RedisServer, module: str) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BATON_")}
    with RedisProxy(redis_server.url) as proxy:
        proxy.mode = Refuse("WRONGPASS invalid username-password pair or user is disabled.")
        environ |= {
            "BATON_REDIS_URL": proxy.url,
            "BATON_PORT": str(free_port()),
            "BATON_FLOWER_PORT": str(free_port()),
            "BATON_FLOWER_AUTH": "user:password",
        }
        done = subprocess.run(
            [sys.executable, "-m", module], env=environ, capture_output=True, text=True, timeout=50
        )
    assert done.returncode == EX_CONFIG
    (line,) = done.stderr.splitlines()
    assert line.endswith("_URL: Redis refuses access: invalid username-password pair or user is disabled.")
