"""`baton doctor`: finds what would keep `baton up` from working on this machine, and says how to fix it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict

import typer

from cli.checks.environment import check_settings, known
from cli.checks.finding import Finding, Level
from cli.checks.machine import check_devices, check_home, check_port_use, check_room
from cli.checks.model import check_model, find_model
from cli.checks.redis import check_redis
from cli.checks.software import check_packages, check_python, check_shadowing
from cli.client.server_options import JsonOption
from cli.commands.ps import HomeOption
from cli.errors import StartRefused
from cli.exit_codes import ExitCode
from cli.supervisor.setup.devices import query_gpus
from cli.supervisor.setup.home import Home
from cli.supervisor.setup.settings import UpSettings
from shared.errors import SettingsError
from shared.model.model_name import DEFAULT_MODEL

_COLOURS: dict[Level, str] = {"ok": "32", "warn": "33", "fail": "31"}


def doctor(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Check that this machine is ready for `baton up`.

    Checks Python, packages, settings, Redis, clock, ports, devices, model, memory and disk. Reads the same BATON_*
    variables as `baton up` and changes nothing. Exits with 1 if a check fails.
    """
    findings = list(examine({**os.environ, **({"BATON_HOME": home} if home else {})}))
    if as_json:
        sys.stdout.write(json.dumps([asdict(finding) for finding in findings]) + "\n")
    else:
        sys.stdout.write("".join(_line(finding) for finding in findings))
    if any(finding.level == "fail" for finding in findings):
        raise typer.Exit(ExitCode.FAILED)


def examine(environ: Mapping[str, str]) -> Iterator[Finding]:
    """All findings, in the order in which to fix them."""
    yield check_python()
    yield from check_packages()
    if shadowing := check_shadowing():
        yield shadowing
    yield from check_settings(environ)
    try:
        settings = UpSettings.read(known(environ))
    except (SettingsError, StartRefused):
        return  # already reported above; the other checks need the settings
    home = Home(settings.home)
    yield from check_home(home)
    yield from check_redis(settings.redis_url, settings.broker_url, home)
    yield from check_port_use(settings, home)
    gpus = query_gpus()
    yield from check_devices(settings.devices, gpus, environ)
    directory, finding = find_model(settings.model, home.models / DEFAULT_MODEL)
    if finding is not None:
        yield finding
    if directory is not None:
        yield from check_model(directory)
        if not home.is_locked:  # a running `baton up` already has its memory
            yield check_room(directory, settings, gpus, environ)


def _line(finding: Finding) -> str:
    """One line, and a second one with the advice."""
    level = f"{finding.level:<4}"
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        level = f"\x1b[{_COLOURS[finding.level]}m{level}\x1b[0m"
    advice = f"{'':<15}-> {finding.advice}\n" if finding.advice else ""
    return f"{level}  {finding.check:<8} {finding.detail}\n{advice}"
