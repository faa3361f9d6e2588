"""The command line of `baton bench`: which options are rejected, and what is written at the end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.main import make_app
from tests.unit.cli.bench.scripted_server import CHUNKED, DONE, ScriptedServer, serving, text, usage, whole

TARGET = ["--target", "a=http://127.0.0.1:1#m"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--concurrency", "1", "--rate", "1"], "--concurrency and --rate cannot be used together"),
        (["--concurrency", "1,x"], "--concurrency 1,x: expected numbers"),
        (["--concurrency", "0"], "positive"),
        (["--concurrency", "8,8"], "differ"),
        (["--rate", "nan"], "positive"),
        (["--rate", "-1"], "positive"),
        (["--prompt-tokens", "9-1"], "'9-1' is not a length"),
        (["--output-tokens", "0"], "'0' is not a length"),
        (["--set", "x"], "--set"),
        (["--set", "stream=false"], "only streamed answers"),
        (["--target", "b"], "expected NAME=URL or NAME=URL#MODEL"),
        (["--json", "/no/such/file"], "/no/such is not a directory"),
    ],
)
def test_what_makes_no_sense_is_refused(options: list[str], said: str) -> None:
    error = CliRunner().invoke(make_app(), ["bench", *TARGET, *options]).exception
    assert isinstance(error, CommandError) and error.code == ExitCode.USAGE
    assert said in str(error)


def test_nobody_there_is_unreachable() -> None:
    error = CliRunner().invoke(make_app(), ["bench", "--target", "a=http://127.0.0.1:1"]).exception
    assert isinstance(error, CommandError) and error.code == ExitCode.UNREACHABLE


async def run(server: ScriptedServer, *options: str) -> Any:
    """Runs the command in a thread, while the server runs in this one."""
    targets = [f"{name}={server.url}#{name}-model" for name in ("first", "second")]
    arguments = ["bench", *(part for each in targets for part in ("--target", each)), *options]
    return await asyncio.to_thread(
        CliRunner().invoke, make_app(), arguments, env={"OPENAI_API_KEY": "secret"}
    )


async def test_table_json_and_picture(tmp_path: Path) -> None:
    files = (tmp_path / "figures.json", tmp_path / "figures.png")
    options = ["--concurrency", "1,2", "--requests", "3", "--rounds", "2", "--output-tokens", "2"]
    async with serving(lambda _: (CHUNKED, text("a"), text("b"), usage(2), DONE)) as server:
        done = await run(server, *options, "--json", str(files[0]), "--png", str(files[1]))
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[:4] for row in rows[1:5]] == [
        ["first", "1", "6", "0"],
        ["second", "1", "6", "0"],
        ["first", "2", "6", "0"],
        ["second", "2", "6", "0"],
    ]
    assert "ratio: tokens per second relative to first, median of 2 round(s)" in done.stdout
    figures = json.loads(files[0].read_text())
    assert [target["model"] for target in figures["targets"]] == ["first-model", "second-model"]
    found = [(one["target"], one["concurrency"], one["tokens"]) for one in figures["results"]]
    assert found == [("first", 1, 12), ("second", 1, 12), ("first", 2, 12), ("second", 2, 12)]
    assert [one["ratio"] for one in figures["results"] if one["target"] == "first"] == [1, 1]
    assert all(len(one["rounds"]) == 2 and one["token_source"] == "usage" for one in figures["results"])
    assert files[1].read_bytes().startswith(b"\x89PNG")
    assert "secret" not in done.output + files[0].read_text()
    assert all("\r\nauthorization: Bearer secret\r\n" in head for head in server.heads)


async def test_errors_are_shown_by_kind_and_end_in_1() -> None:
    refusal = whole("503 No", b'{"error":{"code":"no_worker"}}')
    async with serving(lambda _: (refusal,)) as server:
        done = await run(server, "--rate", "500", "--requests", "5", "--warm-up", "0")
    assert isinstance(done.exception, CommandError) and done.exception.code == ExitCode.FAILED
    assert "first at 500/s: 5 x status 503 no_worker" in done.stdout


async def test_tokens_without_usage_are_told_to_be_chunks() -> None:
    async with serving(lambda _: (CHUNKED, text("a"), text("b"), DONE)) as server:
        done = await run(server, "--concurrency", "1", "--requests", "2")
    assert done.exit_code == 0
    assert "first at 1: tokens are counted as chunks because answers report no usage" in done.stdout
