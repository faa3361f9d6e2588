from __future__ import annotations

import pytest

from cli.exit_codes import ExitCode
from cli.flower_entry import broker_url, flower_environment, main
from shared.errors import SettingsError
from shared.settings import Environment


def test_settings_become_flowers_variables() -> None:
    env = Environment({"BATON_FLOWER_AUTH": "u:p", "BATON_HOST": "127.0.0.2", "BATON_FLOWER_PORT": "7"})
    found = flower_environment(env)
    assert found["FLOWER_BASIC_AUTH"] == "u:p"
    assert (found["FLOWER_ADDRESS"], found["FLOWER_PORT"]) == ("127.0.0.2", "7")
    assert found["FLOWER_PERSISTENT"] == "false"


@pytest.mark.parametrize("auth", ["", "u", "u:", ":p"])
def test_it_does_not_start_open_to_everybody(auth: str) -> None:
    with pytest.raises(SettingsError, match="BATON_FLOWER_AUTH"):
        flower_environment(Environment({"BATON_FLOWER_AUTH": auth}))


def test_the_broker_is_the_jobs_redis_unless_named() -> None:
    assert broker_url(Environment({"BATON_REDIS_URL": "redis://a"})) == "redis://a"
    assert (
        broker_url(Environment({"BATON_REDIS_URL": "redis://a", "BATON_BROKER_URL": "redis://b"}))
        == "redis://b"
    )
    with pytest.raises(SettingsError, match="BATON_REDIS_URL"):
        broker_url(Environment({}))


def test_a_wrong_setting_is_one_line_and_78(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main({"BATON_FLOWER_PORT": "none"})
    assert caught.value.code == ExitCode.CONFIG
    assert capsys.readouterr().err.count("\n") == 1
