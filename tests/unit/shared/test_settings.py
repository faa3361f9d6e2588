"""Settings: what is unknown, unusable or left as a placeholder stops the start, by name."""

from __future__ import annotations

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
