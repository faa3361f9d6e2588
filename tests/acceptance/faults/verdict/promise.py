"""Promise: asserts that it was kept, and that nothing is left over."""

from __future__ import annotations

from collections.abc import Sequence

from tests.acceptance.faults.harness.cluster import Cluster
from tests.acceptance.faults.verdict.checker import check
from tests.acceptance.faults.verdict.history import Final, History
from tests.acceptance.faults.verdict.leftovers import after_retention, all_over, finals_of, leftovers
from tests.acceptance.faults.verdict.reference import Scripted


async def hold_to_promise(
    cluster: Cluster, histories: Sequence[History], *, also_known: Sequence[str] = ()
) -> dict[str, Final]:
    """Wait until all jobs are over and everything is back; answers the jobs."""
    assert await all_over(cluster, 30) == []
    known = {job_id for history in histories for job_id in history.job_ids}
    finals = await finals_of(cluster, sorted(known))
    assert check(histories, finals, Scripted()) == []
    assert await leftovers(cluster, known | set(also_known)) == []
    left = await after_retention(cluster)
    assert left == [], left
    return finals
