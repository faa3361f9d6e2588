"""What a model says, whatever it is, stays within its event: text can neither end one nor begin another."""

from __future__ import annotations

import httpx
import pytest

from shared.store.job_store import JobStore
from tests.fake_worker import FakeWorker, says
from tests.integration.api.requests import CHAT, chat, resume, stream, submit
from tests.unit.api.streams import Block, blocks

#: Ends of lines and of events as server-sent events, JSON, Unicode and terminals know them.
HOSTILE = (
    "\r\n\r\ndata: [DONE]\r\n\r\n",
    "\n\nid: 1.aaaaaaaa.9.x.9f\nevent: error\ndata: {}\n\n",
    "\rdata: \r\r",
    "\u2028\u2029\x85\x0b\x0c\x00\x1b[2J",
    ": ping\n\nretry: 0\n\n",
    '"}}]}\n\n</script>\\u0000',
)


def said(found: list[Block]) -> str:
    chunks = [block.json for block in found if block.data != "[DONE]"]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


@pytest.mark.parametrize("texts", [HOSTILE, tuple("".join(HOSTILE))], ids=["in pieces", "by the character"])
async def test_a_models_output_never_breaks_the_framing(
    http: httpx.AsyncClient, store: JobStore, texts: tuple[str, ...]
) -> None:
    async with FakeWorker(store, says(texts)):
        found = await stream(http)
        assert said(found) == "".join(texts)
        assert [block.data for block in found].count("[DONE]") == 1 and found[-1].data == "[DONE]"
        assert all(block.id and not block.event for block in found)
        again = blocks((await resume(http, found[0].json["id"])).content)
        assert said(again) == "".join(texts) and again[-1].id == found[-1].id
        whole = await http.post(CHAT, json=chat())
        assert whole.json()["choices"][0]["message"]["content"] == "".join(texts)
        job_id = await submit(http)
        await http.get(f"/v1/jobs/{job_id}", params={"wait": "10"})
        told = blocks((await http.get(f"/v1/jobs/{job_id}/events")).content)
        outputs = [block for block in told if block.event == "job.output"]
        assert said(outputs) == "".join(texts)
        assert {block.event for block in told} == {
            "job.queued",
            "job.started",
            "job.output",
            "job.completed",
        }
