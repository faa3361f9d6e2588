"""Checks the BATON_* variables, one by one and together."""

from __future__ import annotations

from collections.abc import Mapping

from cli.checks.finding import Finding, refusal
from cli.supervisor.setup.settings import UpSettings
from shared import settings
from shared.errors import SettingsError

_ADVICE = "correct or unset the variable; `baton up --help` lists most of them"


def check_settings(environ: Mapping[str, str]) -> list[Finding]:
    """Reports every wrong variable; `baton up` reports only the first."""
    wrong = [*_wrong_names(environ), *_wrong_values(environ)]
    if wrong:
        return [Finding("settings", "fail", detail, _ADVICE) for detail in wrong]
    advice = "set BATON_API_KEYS, or listen on 127.0.0.1"
    unsafe = refusal("settings", advice, lambda: UpSettings.read(environ))
    given = sorted(name for name in settings.without_service_links(environ) if name.startswith("BATON_"))
    found = [unsafe or Finding("settings", "ok", ", ".join(given) or "all defaults")]
    if ignored := settings.ignored_service_links(environ):
        found.append(Finding("settings", "ok", ignored))
    return found


def known(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without BATON_* variables that do not exist."""
    names = {variable.name for variable in settings.VARIABLES}
    own = settings.without_service_links(environ)
    return {n: value for n, value in own.items() if not n.startswith("BATON_") or n in names}


def _wrong_names(environ: Mapping[str, str]) -> list[str]:
    found = []
    for name in sorted(environ.keys() - known(environ).keys()):
        try:
            settings.Environment({name: environ[name]})
        except SettingsError as error:
            found.append(str(error))
    return found


def _wrong_values(environ: Mapping[str, str]) -> list[str]:
    env = settings.Environment(known(environ))
    found = []
    for variable in settings.VARIABLES:
        try:
            env.read(variable)
        except SettingsError as error:
            found.append(str(error))
    return found
