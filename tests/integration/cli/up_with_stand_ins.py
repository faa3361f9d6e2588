"""`baton up` after the lock was taken, with a real Redis and stand-ins for everything else.

`python -m tests.integration.cli.up_with_stand_ins <home> <api port> <flower port> [<first worker's command>]`
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from rich.console import Console

from cli.errors import CommandError
from cli.supervisor.embedded_redis import RedisBinary, redis_binary, redis_command, socket_path
from cli.supervisor.plan import ChildPlan, redis_plan
from cli.supervisor.run import run
from cli.supervisor.setup.flower_password import FlowerAuth
from cli.supervisor.setup.home import Home
from cli.supervisor.setup.prepare import Prepared


def plans(
    home: Home, redis: RedisBinary, api_port: str, flower_port: str, worker: list[str]
) -> tuple[ChildPlan, ...]:
    socket = socket_path(home.redis)
    environ = {**os.environ, "BATON_REDIS_URL": f"unix://{socket}"}
    stand_in = (sys.executable, "-m", "tests.integration.cli.stand_in")
    command = redis_command(redis.path, home.redis, socket, "always", 512)
    return (
        redis_plan(command, f"unix://{socket}", environ),
        ChildPlan("api", "api-1", (*stand_in, "api", api_port), environ, f"http://127.0.0.1:{api_port}"),
        ChildPlan(
            "worker", "worker-1", tuple(worker) or (*stand_in, "worker", "worker-1"), environ, device="cpu"
        ),
        ChildPlan(
            "flower", "flower", (*stand_in, "flower", flower_port), environ, f"http://127.0.0.1:{flower_port}"
        ),
    )


def main() -> None:
    home = Home(Path(sys.argv[1]))
    home.make()
    with home.locked() as lock:
        redis = redis_binary(home.redis)
        children = plans(home, redis, sys.argv[2], sys.argv[3], sys.argv[4:])
        url = children[0].url or ""
        auth = FlowerAuth("a:b", is_new=False)
        prepared = Prepared(children, url, url, auth, "stand-in", ("cpu",), False, redis.version)
        asyncio.run(run(prepared, home, lock, Console()))


if __name__ == "__main__":
    try:
        main()
    except CommandError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.code)
