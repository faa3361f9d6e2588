"""Settings: what is unknown, unusable or left as a placeholder stops the start, by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared import settings
from shared.errors import SettingsError
from shared.settings import Environment


def test_a_variable_that_is_not_set_has_its_default() -> None:
    env = Environment({"PATH": "/bin", "BATON_PORT": " "})
    assert env.read(settings.PORT) == 8000
    assert env.read(settings.DEVICES) == ("auto",)
    assert env.read(settings.THREADS) is None


def test_every_default_can_be_read() -> None:
    env = Environment({})
    for variable in settings.VARIABLES:
        env.read(variable)


def test_lists_are_split_and_trimmed() -> None:
    assert Environment({"BATON_DEVICES": "cuda:0, cpu"}).read(settings.DEVICES) == ("cuda:0", "cpu")
    joined = Environment({"BATON_DEVICES": "cuda:0+cuda:1, cuda:2"})
    assert joined.read(settings.DEVICES) == ("cuda:0+cuda:1", "cuda:2")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BATON_PORT", "0"),
        ("BATON_PORT", "many"),
        ("BATON_DEVICES", "gpu"),
        ("BATON_DEVICES", "auto,cpu"),
        ("BATON_DTYPE", "int4"),
        ("BATON_MAX_SLOTS", "0"),
        ("BATON_PING_S", "-1"),
        ("BATON_API_KEYS", "changeme"),
    ],
)
def test_an_unusable_value_is_refused_with_its_name(name: str, value: str) -> None:
    variable = next(v for v in settings.VARIABLES if v.name == name)
    with pytest.raises(SettingsError, match=name):
        Environment({name: value}).read(variable)


def test_a_value_that_is_no_number_is_explained() -> None:
    for name, rule in (("BATON_MAX_SLOTS", "a whole number"), ("BATON_PING_S", "a number")):
        variable = next(v for v in settings.VARIABLES if v.name == name)
        with pytest.raises(SettingsError, match=f"^{name}=abc: must be {rule}$"):
            Environment({name: "abc"}).read(variable)


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(SettingsError, match=r"BATON_PROT is not a setting; did you mean BATON_PORT\?"):
        Environment({"BATON_PROT": "1"})


SERVICE_LINKS = {
    "BATON_PORT": "tcp://10.96.0.12:8000", "BATON_SERVICE_HOST": "10.96.0.12", "BATON_SERVICE_PORT": "8000",
    "BATON_SERVICE_PORT_HTTP_METRICS": "8000", "BATON_PORT_8000_TCP": "tcp://10.96.0.12:8000",
    "BATON_PORT_8000_TCP_PROTO": "tcp", "BATON_PORT_8000_TCP_PORT": "8000",
    "BATON_PORT_8000_TCP_ADDR": "10.96.0.12", "BATON_API_PORT": "tcp://[fd00::1]:8000",
    "BATON_API_SERVICE_HOST": "fd00::1", "BATON_REDIS_PORT": "tcp://10.96.0.13:6379",
    "BATON_REDIS_PORT_6379_TCP_ADDR": "10.96.0.13", "BATON_FLOWER_PORT": "udp://10.96.0.14:5555",
}  # fmt: skip


@pytest.mark.parametrize("name", SERVICE_LINKS)
def test_each_service_link_of_kubernetes_is_ignored(name: str) -> None:
    env = Environment({name: SERVICE_LINKS[name], "BATON_HOST": "0.0.0.0"})
    assert (env.read(settings.PORT), env.read(settings.FLOWER_PORT)) == (8000, 5555)
    assert name in env.ignored and "enableServiceLinks: false" in env.ignored


def test_all_service_links_are_one_line() -> None:
    env = Environment({**SERVICE_LINKS, "BATON_MODEL": "m"})
    assert all(name in env.ignored for name in SERVICE_LINKS)
    assert "\n" not in env.ignored and "BATON_MODEL" not in env.ignored
    assert Environment({"BATON_PORT": "9000"}).ignored == ""


def test_what_a_person_sets_beside_service_links_counts() -> None:
    own = {"BATON_PORT": "9000", "BATON_MODEL": "m", "PATH": "/bin"}
    given = {**SERVICE_LINKS, **own}
    assert settings.without_service_links(given) == own
    assert Environment(given).read(settings.PORT) == 9000
    with pytest.raises(SettingsError, match="BATON_PORT=tcp:8000"):
        Environment({"BATON_PORT": "tcp:8000"}).read(settings.PORT)


@pytest.mark.parametrize("variable", [settings.API_KEYS, settings.ADMIN_KEYS, settings.FLOWER_BASIC_AUTH])
@pytest.mark.parametrize("value", ["schlüssel-1", "user:pass\x07word", "键", "k\u200b"])
def test_what_http_clients_do_not_send_alike_is_refused_and_not_shown(
    variable: settings.Variable[object], value: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{variable.name}: must consist of printable ASCII") as caught:
        Environment({variable.name: value}).read(variable)
    assert value not in str(caught.value)


@pytest.mark.parametrize("variable", [settings.REDIS_URL, settings.BROKER_URL])
def test_a_redis_url_that_cannot_be_read_is_named_and_not_shown(variable: settings.Variable[str]) -> None:
    with pytest.raises(SettingsError, match=f"^{variable.name}: .*%2F") as caught:
        Environment({variable.name: "redis://:s3cret/word@127.0.0.1"}).read(variable)
    assert "s3cret" not in str(caught.value)


def test_text_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(SettingsError, match="BATON_MODEL_NAME is not UTF-8"):
        Environment({"BATON_MODEL_NAME": "mod\udce8le"}).read(settings.MODEL_NAME)
    # A path may be any bytes.
    assert str(Environment({"BATON_HOME": "mod\udce8le"}).read(settings.HOME)) == "mod\udce8le"
    assert Environment({"BATON_MODEL_NAME": "modèle"}).read(settings.MODEL_NAME) == "modèle"


def test_a_share_is_at_most_1() -> None:
    assert Environment({"BATON_MEMORY_SHARE": "0.5"}).read(settings.MEMORY_SHARE) == 0.5
    for wrong in ("0", "1.1", "half"):
        with pytest.raises(SettingsError, match="BATON_MEMORY_SHARE"):
            Environment({"BATON_MEMORY_SHARE": wrong}).read(settings.MEMORY_SHARE)


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8", "en_US.ISO-8859-1"])
def test_settings_are_utf_8_in_any_locale(locale: str, tmp_path: Path) -> None:
    home = tmp_path / "mödel-模"
    home.mkdir()
    program = (
        "import os; from shared import settings; env = settings.Environment(os.environ);"
        "assert env.read(settings.MODEL_NAME) == 'm\\xf6del-\\u6a21', ascii(env.read(settings.MODEL_NAME));"
        "assert env.read(settings.HOME).is_dir()"
    )
    own = {"BATON_MODEL_NAME": "mödel-模", "BATON_HOME": str(home), "LC_ALL": locale}
    # In the C locale Python would use UTF-8 by itself.
    environ = {**os.environ, **own, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", program], env=environ, check=True)
