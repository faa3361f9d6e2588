from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cli.exit_codes import EXIT_CODES, ExitCode
from cli.main import main, make_app


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yields every command with its path."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


def parse(command: Any, words: list[str]) -> tuple[str, ...]:
    """The path of the command that a line runs. Fails if the line would be rejected."""
    context = command.make_context(command.name, list(words))
    rest = [*context._protected_args, *context.args]
    if not (rest and hasattr(command, "commands")):
        return ()
    name, below, rest = command.resolve_command(context, rest)
    return (name, *parse(below, rest))


COMMANDS = (
    "up", "ps", "doctor", "chat", "submit", "watch", "jobs", "cancel", "retry", "delete", "bench",
    "workers", "workers drain", "workers start",
)  # fmt: skip
TREE = dict(commands(typer.main.get_command(make_app())))


@pytest.mark.parametrize("path", TREE, ids=" ".join)
def test_every_command_shows_its_exit_codes_and_examples_that_parse(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(make_app(), [*path, "--help"])
    assert (shown.exit_code, "130 Ctrl-C" in " ".join(shown.output.split())) == (0, True)
    examples = shown.output.partition("Examples:\n")[2].partition("\n\n")[0].splitlines()
    called = [
        parse(TREE[()], shlex.split(re.sub(r" [<|>] .*", "", example.partition("baton ")[2]), comments=True))
        for example in examples
        if "--install-completion" not in example
    ]
    assert called and all(is_below(words, path) for words in called), examples


def is_below(words: tuple[str, ...], path: tuple[str, ...]) -> bool:
    return words[: len(path)] == path


@pytest.mark.parametrize("group", [(), ("workers",)], ids=["baton", "baton workers"])
def test_no_summary_is_cut_off_at_80_columns(group: tuple[str, ...]) -> None:
    shown = CliRunner(env={"COLUMNS": "80"}).invoke(make_app(), [*group, "--help"])
    listed = shown.output.partition("Commands:\n")[2].partition("\n\n")[0]
    assert listed.count("\n") >= 1 and "..." not in listed


def test_the_tree_is_the_whole_of_it() -> None:
    assert {" ".join(path) for path in TREE} >= set(COMMANDS)


@pytest.mark.parametrize(
    ("asked", "proposed"),
    [
        ({"_BATON_COMPLETE": "complete_bash", "COMP_WORDS": "baton wor", "COMP_CWORD": "1"}, "workers"),
        ({"_BATON_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "baton workers d"}, '"drain":'),
        (
            {
                "_BATON_COMPLETE": "complete_fish",
                "_TYPER_COMPLETE_ARGS": "baton chat --temp",
                "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            },
            "--temperature",
        ),
    ],
    ids=["bash", "zsh", "fish"],
)
def test_completion(asked: dict[str, str], proposed: str) -> None:
    shown = CliRunner().invoke(make_app(), env=asked, prog_name="baton")
    assert (shown.exit_code, proposed in shown.output) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["up", "--port", "x"], ExitCode.CONFIG, "BATON_PORT=x"),
        (["up", "--host", "0.0.0.0"], ExitCode.CONFIG, "BATON_API_KEYS"),
        (["up", "--nonsense"], ExitCode.USAGE, "No such option"),
        (["jobs", "--url", "http://127.0.0.1:1"], ExitCode.UNREACHABLE, "is `baton up` running?"),
        (["watch", "../../etc", "--url", "http://127.0.0.1:1"], ExitCode.USAGE, "not a job id"),
        (["workers", "--url", "http://127.0.0.1:1"], ExitCode.UNREACHABLE, "is `baton up` running?"),
        (["workers", "--redis-url", "redis://127.0.0.1:1"], ExitCode.UNREACHABLE, "no answer from Redis"),
        (["workers", "--redis-url", "127.0.0.1:1"], ExitCode.USAGE, "--redis-url"),
        (["jobs", "--url", "nonsense"], ExitCode.USAGE, "--url nonsense is not a URL"),
        (["submit", "x", "--set", "y", "--url", "http://127.0.0.1:1"], ExitCode.USAGE, "NAME=VALUE"),
        (["submit", "a\udcffb", "--url", "http://127.0.0.1:1"], ExitCode.USAGE, "not UTF-8 text"),
        (["jobs", "--api-key", "é", "--url", "http://127.0.0.1:1"], ExitCode.USAGE, "the API key"),
        (["submit", "a", "-m", "m", "--temperature", "nan"], ExitCode.USAGE, "cannot be sent"),
        (["submit", "a", "-m", "m", "-s", "\udcff"], ExitCode.USAGE, "cannot be sent"),
        (["submit", "a", "-m", "m", "--idempotency-key", "é"], ExitCode.USAGE, "cannot be sent"),
        (["chat", " ", "--url", "http://127.0.0.1:1"], ExitCode.USAGE, "the prompt is empty"),
        (["ps", "--home", "/nonexistent"], ExitCode.UNREACHABLE, ""),
    ],
)
def test_what_went_wrong_is_a_line_and_a_code(
    arguments: list[str], code: ExitCode, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == code
    assert words in capsys.readouterr().err


def test_a_setting_that_is_wrong_is_a_line_and_a_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BATON_PORT", "x")
    with pytest.raises(SystemExit) as caught:
        main(["jobs"])
    assert caught.value.code == ExitCode.CONFIG
    assert capsys.readouterr().err.startswith("baton: BATON_PORT=x: ")


def test_every_exit_code_is_told() -> None:
    assert re.findall(r"(?:: |, )(\d+) ", EXIT_CODES) == [str(code.value) for code in ExitCode]
