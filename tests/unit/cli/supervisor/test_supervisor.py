from __future__ import annotations

from cli.supervisor.supervisor import describe_exit


def test_exits_in_words() -> None:
    assert describe_exit(3) == "exited with code 3"
    assert describe_exit(-9) == "killed by SIGKILL"
    assert describe_exit(-40) == "killed by signal 40"
    assert describe_exit(71) == "could not be started"
