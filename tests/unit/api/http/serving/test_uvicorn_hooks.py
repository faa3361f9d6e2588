"""What api/http/serving overrides and uses of uvicorn's private parts: a version that moved any of it fails here."""

from __future__ import annotations

import asyncio
import inspect
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import uvicorn
from packaging.requirements import Requirement
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from api.http.serving.flow import Flow
from api.http.serving.protocol import Connection
from api.http.serving.server import Server

ROOT = Path(__file__).parents[5]
#: What a subclass adds; everything else in it must override.
ADDED = {
    Connection: {
        "_parse", "_is_full", "_feed", "_count", "_await_head", "_give_up_head", "_linger", "_close", "_start_timer",
        "_stop_timer", "_refuse",
    },
    Flow: set(),
    Server: {"begin_exit"},
}  # fmt: skip
#: Who calls each override of a private method. If nobody does, it has no effect.
CALLERS = {
    "_start_asgi_task": "HttpToolsProtocol.on_headers_complete",
    "on_response_complete": "RequestResponseCycle.send",
    "send_400_response": "HttpToolsProtocol.data_received",
    "_unsupported_upgrade_warning": "HttpToolsProtocol",
    "timeout_keep_alive_handler": "HttpToolsProtocol",
    "_unset_keepalive_if_required": "HttpToolsProtocol",
}


def methods(kind: type) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(kind).items()
        if (inspect.isfunction(value) or isinstance(value, property)) and not name.startswith("__")
    }


@pytest.mark.parametrize(
    ("own", "base"), [(Connection, HttpToolsProtocol), (Flow, FlowControl), (Server, uvicorn.Server)]
)
def test_every_override_overrides_a_method_with_the_same_parameters(own: type, base: type) -> None:
    overrides = methods(own).keys() - ADDED[own]
    assert overrides and ADDED[own] <= methods(own).keys()
    for name in sorted(overrides):
        assert hasattr(base, name), f"uvicorn has no {base.__name__}.{name} any more"
        expected = list(inspect.signature(getattr(base, name)).parameters)
        assert len(inspect.signature(getattr(own, name)).parameters) == len(expected), name
    # What we add must not have become a method of uvicorn's.
    assert [name for name in ADDED[own] if hasattr(base, name)] == []


@pytest.mark.parametrize("hook", CALLERS)
def test_every_private_hook_is_called(hook: str) -> None:
    kind, _, method = CALLERS[hook].partition(".")
    owner = {"HttpToolsProtocol": HttpToolsProtocol, "RequestResponseCycle": RequestResponseCycle}[kind]
    source = inspect.getsource(getattr(owner, method) if method else owner)
    name = "on_response" if hook == "on_response_complete" else hook
    assert f"self.{name}(" in source or f"self.{name}\n" in source


async def test_the_attributes_that_are_used_are_there() -> None:
    config = uvicorn.Config(lambda: None, loop="none", log_config=None, ws="none", lifespan="off")
    protocol = HttpToolsProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    for name in (
        *("cycle", "pipeline", "scope", "headers", "flow", "transport", "loop"),
        *("timeout_keep_alive", "timeout_keep_alive_task"),
    ):
        assert hasattr(protocol, name), name
    cycle = RequestResponseCycle(*[None] * len(list(inspect.signature(RequestResponseCycle).parameters)))  # type: ignore[arg-type]
    for name in (
        *("scope", "body", "response_started", "response_complete", "disconnected", "message_event"),
        *("chunked_encoding", "expected_content_length", "keep_alive"),
    ):
        assert hasattr(cycle, name), name
    server = uvicorn.Server(config)
    assert (server.should_exit, server.force_exit) == (False, False)
    assert get_type_hints(HttpToolsProtocol.on_header)["value"] is bytes


def test_the_range_of_versions_is_closed_and_holds_what_is_installed() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["api"]
    required = {requirement.name: requirement for requirement in map(Requirement, extras)}
    for name in ("uvicorn", "httptools"):
        specifier = required[name].specifier
        assert metadata.version(name) in specifier
        assert any(part.operator == "<" for part in specifier), f"{name} has no upper limit"
