"""What a job has released is read from its stream in pages: all of it, or one item's text."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.delivery import stored_output
from api.delivery.stored_output import StoredOutput
from api.errors import EventUnreadable, StreamCorrupt
from shared.domain.result import Result
from shared.errors import DecodeError
from shared.store.job_reader import JobReader, Page
from tests.unit.api.streaming.test_relay import FakeStore
from tests.unit.api.streams import JOB_ID, Answers, rich_answers, tell


def stored(told: Answers, seed: int) -> StoredOutput:
    store = FakeStore()
    store.streams[JOB_ID] = tell(told, seed)
    return StoredOutput(cast(JobReader, store), JOB_ID, told.n)


@pytest.fixture(autouse=True, scope="module")
def _short_pages() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_output, "_PAGE", 2)
        yield


@given(rich_answers, st.integers())
async def test_the_result_is_the_fold_of_the_stream(told: Answers, seed: int) -> None:
    expected = Result.empty(told.n)
    expected.take(told.choices)
    found = await stored(told, seed).result()
    assert [choice.items for choice in found.choices] == [choice.items for choice in expected.choices]
    assert [choice.finish for choice in found.choices] == [choice.finish for choice in expected.choices]
    assert found.used == told.used


@given(rich_answers, st.integers())
async def test_an_item_has_its_own_text(told: Answers, seed: int) -> None:
    output = stored(told, seed)
    result = Result.empty(told.n)
    result.take(told.choices)
    for index, choice in enumerate(result.choices):
        for number, item in enumerate(choice.items):
            assert await output.text(index, number, item.start, choice.position) == item.text


class UnreadableStore(FakeStore):
    async def page(self, job_id: str, *, after: str | None, limit: int) -> Page:
        raise DecodeError("event", (job_id, after, limit))


async def test_what_a_newer_version_wrote_cannot_be_read() -> None:
    with pytest.raises(EventUnreadable):
        await StoredOutput(cast(JobReader, UnreadableStore()), JOB_ID, 1).result()


async def test_a_stream_with_a_gap_is_corrupt() -> None:
    store = FakeStore()
    store.streams[JOB_ID] = tell(Answers((("a", "b", "c"),), ("stop",)), 1)
    del store.streams[JOB_ID][2]
    with pytest.raises(StreamCorrupt):
        await StoredOutput(cast(JobReader, store), JOB_ID, 1).result()
