"""How `make test` shares the tests between its processes."""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadScopeScheduling

#: Whose tests share running servers. The first that a test is in counts.
_SYSTEMS = ("tests/acceptance/faults", "tests/acceptance")
#: Of the others those that take long, half a minute some of them: they come before their like, so that no
#: process is alone with one in the end.
_LONG = ("tests/integration/workers/", "tests/integration/bench/", "tests/unit/workers/engine/")


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist is untyped
    """Gives a process a whole group of tests at a time, so that what they share is started once."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        self.workqueue.move_to_end(min(self.workqueue, key=turn_of), last=False)
        super()._assign_work_unit(node)


def group_of(nodeid: str) -> str:
    """The system that a test shares with others, or else its file."""
    file = nodeid.partition("::")[0]
    return next((system for system in _SYSTEMS if file.startswith(f"{system}/")), file)


def turn_of(group: str) -> tuple[list[str], bool]:
    """The long ones come first: acceptance, integration, soak and unit tests in the order of the alphabet."""
    return group.split("/")[:2], not group.startswith(_LONG)
