from __future__ import annotations

import pytest
from typer.testing import CliRunner

from cli.exit_codes import ExitCode
from cli.main import main, make_app

COMMANDS = ("up", "ps", "chat", "submit", "watch", "jobs", "cancel", "workers")


def test_every_command_tells_its_exit_codes() -> None:
    for command in COMMANDS:
        shown = CliRunner().invoke(make_app(), [command, "--help"])
        assert (shown.exit_code, "130 interrupted" in " ".join(shown.output.split())) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["up", "--port", "x"], ExitCode.CONFIG, "BATON_PORT=x"),
        (["up", "--host", "0.0.0.0"], ExitCode.CONFIG, "BATON_API_KEYS"),
        (["up", "--nonsense"], ExitCode.USAGE, "No such option"),
        (["jobs", "--url", "http://127.0.0.1:1"], ExitCode.UNREACHABLE, "is `baton up` running?"),
        (["watch", "../../etc", "--url", "http://127.0.0.1:1"], ExitCode.USAGE, "not the id of a job"),
        (["workers", "--home", "/nonexistent"], ExitCode.UNREACHABLE, "no Redis is known"),
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
