"""`baton submit` and `baton watch`: sources of the request, and output for scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.exit_codes import ExitCode
from shared.domain.events import Completed, Failed
from shared.errors import ErrorInfo
from shared.store.job_store import JobStore
from tests.integration.cli.clients import MODEL, Done, ScriptedWorker, messages_of


async def test_the_prompt_may_stand_on_standard_input(baton: Any, worker: ScriptedWorker) -> None:
    for arguments in ([], ["-"]):
        command = await baton("submit", *arguments, "-s", "be brief", "--top-p", "0.5", given="hello\n")
        submitted = await command.done()
        job = await worker.take()
        assert (submitted.code, submitted.out, submitted.err) == (ExitCode.OK, f"{job.id}\n", "")
        assert messages_of(job) == [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "hello\n"},
        ]
        assert job.request.sampling.top_p == 0.5
        await worker.write(end=Completed())


async def test_the_request_may_be_a_file_of_json(baton: Any, worker: ScriptedWorker, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "from a file"}]
    file, text = tmp_path / "body.json", json.dumps({"model": MODEL, "messages": messages})
    file.write_text(text)
    for arguments, given in ((["--body", str(file)], ""), (["--body", "-"], text)):
        options = ("--metadata", "branch=main", "--metadata", "x=a=b", "--expires-after", "60")
        shown = json.loads(
            (await (await baton("submit", *arguments, *options, "--json", given=given)).done()).out
        )
        job = await worker.take()
        assert (shown["id"], shown["status"]) == (job.id, "queued")
        assert messages_of(job) == messages and job.metadata == {"branch": "main", "x": "a=b"}
        await worker.write(end=Completed())


@pytest.mark.parametrize("text", ["{", "[]"])
async def test_a_file_without_a_request_is_a_wrong_usage(
    baton: Any, worker: ScriptedWorker, text: str
) -> None:
    del worker
    done = await (await baton("submit", "--body", "-", given=text)).done()
    assert (done.code, done.out, done.err.count("\n")) == (ExitCode.USAGE, "", 1)


async def test_a_prompt_that_is_no_text_is_a_wrong_usage(baton: Any, worker: ScriptedWorker) -> None:
    del worker
    for command, given in (("submit", b"\xff\xfe"), ("submit", b" \n"), ("chat", b"\xff")):
        done = await (await baton(command, given=given)).done()
        assert (done.code, done.out, done.err.count("\n")) == (ExitCode.USAGE, "", 1)


async def test_wait_prints_the_answer_or_the_job(baton: Any, worker: ScriptedWorker) -> None:
    for json_flag in ([], ["--json"]):
        command = await baton("submit", "hello", "--wait", *json_flag)
        job = await worker.take()
        await worker.write("One", ", two", end=Completed())
        done = await command.done()
        assert (done.code, done.err.splitlines()[0]) == (ExitCode.OK, job.id)
        if json_flag:
            shown = json.loads(done.out)
            assert shown["result"]["choices"][0]["message"]["content"] == "One, two"
        else:
            assert done.out == "One, two\n"


async def test_wait_tells_by_its_exit_code_that_the_job_failed(baton: Any, worker: ScriptedWorker) -> None:
    for json_flag in ([], ["--json"]):
        command = await baton("submit", "hello", "--wait", *json_flag)
        await worker.take()
        await worker.write("One", end=Failed(ErrorInfo("out of luck")))
        done = await command.done()
        assert done.code == ExitCode.FAILED
        if json_flag:
            assert json.loads(done.out)["error"]["message"] == "out of luck"


async def test_ctrl_c_leaves_the_job_alone(baton: Any, worker: ScriptedWorker) -> None:
    command = await baton("submit", "hello", "--wait")
    job = await worker.take()
    await worker.write("One")
    await command.read("One")
    command.interrupt()
    done = await command.done()
    assert (done.code, f"`baton watch {job.id}`" in done.err) == (ExitCode.INTERRUPTED, True)
    await worker.write(end=Completed())  # the job is still this worker's


async def test_polling_tells_what_the_stream_does(baton: Any, worker: ScriptedWorker) -> None:
    job_id = (await (await baton("submit", "hello")).done()).out.strip()
    polling = await baton("watch", job_id, "--poll")
    await worker.take()
    await worker.write("a", "b")
    await polling.read("ab")
    await worker.write("c", end=Completed())
    polled = await polling.done()
    assert (polled.code, polled.out) == (ExitCode.OK, "c\n")
    assert polled.err == "[queued]\n[started by worker-1]\n[completed - 3 tokens]\n"


async def test_a_reader_goes_on_behind_a_cursor(baton: Any, worker: ScriptedWorker) -> None:
    job_id = (await (await baton("submit", "hello")).done()).out.strip()
    await worker.take()
    await worker.write("a", "b")
    await worker.write("c", end=Completed())
    for poll in ([], ["--poll"]):
        whole = (await (await baton("watch", job_id, "--json", *poll)).done()).out.splitlines()
        for number, line in enumerate(whole[:-1], 1):
            cursor = json.loads(line)["id"]
            rest = await (await baton("watch", job_id, "--json", "--from", cursor, *poll)).done()
            assert (rest.code, rest.out.splitlines()) == (ExitCode.OK, whole[number:])
        wrong = await (await baton("watch", job_id, "--from", "nonsense", *poll)).done()
        assert (wrong.code, wrong.err.count("\n")) == (ExitCode.USAGE, 1)


async def test_a_repeated_submit_under_a_key_names_the_same_job(baton: Any, worker: ScriptedWorker) -> None:
    async def hand_in(prompt: str) -> Done:
        done: Done = await (await baton("submit", prompt, "--idempotency-key", "key-1")).done()
        return done

    first = await hand_in("hello")
    job = await worker.take()
    assert (first.out, (await hand_in("hello")).out) == (f"{job.id}\n", f"{job.id}\n")
    other = await hand_in("something else")
    assert (other.code, other.out, other.err.count("\n")) == (ExitCode.USAGE, "", 1)
    await worker.write("One", end=Completed())


async def test_retry_and_delete(baton: Any, worker: ScriptedWorker, store: JobStore) -> None:
    old_id = (await (await baton("submit", "hello")).done()).out.strip()
    too_early = await (await baton("retry", old_id)).done()
    assert (too_early.code, too_early.out) == (ExitCode.USAGE, "")
    await worker.take()
    await worker.write(end=Failed(ErrorInfo("out of luck")))
    command = await baton("retry", old_id, "--wait")
    job = await worker.take()
    assert job.id != old_id and messages_of(job) == [{"role": "user", "content": "hello"}]
    await worker.write("One", end=Completed())
    done = await command.done()
    assert (done.code, done.out, done.err.splitlines()[0]) == (ExitCode.OK, "One\n", job.id)
    deleted = await (await baton("delete", old_id, job.id)).done()
    assert (deleted.code, deleted.out) == (ExitCode.OK, f"{old_id} deleted\n{job.id} deleted\n")
    assert await store.get_many([old_id, job.id]) == [None, None]
    gone = await (await baton("delete", old_id)).done()
    assert gone.code == ExitCode.NOT_FOUND
