"""The text that `baton up` prints once everything is ready."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from cli.supervisor.setup.home import Home
from cli.supervisor.setup.prepare import Prepared


def banner(prepared: Prepared, home: Home) -> list[str]:
    """Lines with the URLs, Flower's password if it is new, and commands to try."""
    urls = [plan.url for plan in prepared.plans if plan.role == "api" and plan.url]
    flower = next(plan.url for plan in prepared.plans if plan.role == "flower")
    return [
        "",
        f"Baton serves {prepared.model_name} on {', '.join(prepared.devices)}",
        *(f"  API      {url}/v1" for url in urls),
        f"  Flower   {flower}  {_login(prepared, home)}",
        f"  logs     {_short(home.logs)}",
        f"  try      {_own_command()} chat",
        f"  or       {_curl(urls[0], prepared)}",
        "Ctrl-C stops everything.",
    ]


def _own_command() -> str:
    """The command by which this user runs `baton`; `make run` uses its path."""
    return "baton" if shutil.which("baton") or not sys.argv[0].endswith("baton") else sys.argv[0]


def _login(prepared: Prepared, home: Home) -> str:
    user, _, password = prepared.flower_auth.text.partition(":")
    if prepared.flower_auth.is_new:
        return f"user {user}, password {password} (shown only now, saved in {_short(home.flower_password)})"
    if home.flower_password.exists():
        return f"user {user}, password in {_short(home.flower_password)}"
    return f"user {user}"


def _short(path: Path) -> Path:
    """The path relative to the current directory if it is below it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _curl(url: str, prepared: Prepared) -> str:
    body = {
        "model": prepared.model_name,
        "messages": [{"role": "user", "content": "What is a queue?"}],
        "stream": True,
    }
    key = " -H 'Authorization: Bearer <key>'" if prepared.is_key_needed else ""
    return (
        f"curl -N {url}/v1/chat/completions{key} -H 'Content-Type: application/json' -d '{json.dumps(body)}'"
    )
