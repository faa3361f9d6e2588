"""GenerationOptions: the options of `chat` and `submit`, and the request's body that they make."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from cli.client.api_client import ApiClient
from cli.errors import CommandError
from cli.exit_codes import ExitCode


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """What is asked beside the prompt, in the API's words; what is None is left to the server."""

    model: Annotated[str | None, typer.Option("--model", "-m", help="Default: the server's first model.")] = (
        None
    )
    system: Annotated[str | None, typer.Option("--system", "-s", help="System message.")] = None
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer, in tokens.")] = None
    temperature: Annotated[float | None, typer.Option(help="0: always the likeliest token.")] = None
    top_p: Annotated[float | None, typer.Option(help="Least probability mass that is drawn from.")] = None
    top_k: Annotated[int | None, typer.Option(help="Draw from so many of the likeliest tokens.")] = None
    min_p: Annotated[
        float | None, typer.Option(help="Least probability, as a part of the likeliest token's.")
    ] = None
    seed: Annotated[int | None, typer.Option(help="Same seed, same answer.")] = None
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="End before this text; may be given several times."),
    ] = None
    presence_penalty: Annotated[float | None, typer.Option(help="Against tokens that the answer holds.")] = (
        None
    )
    frequency_penalty: Annotated[
        float | None, typer.Option(help="The same, for each time that it holds them.")
    ] = None
    repetition_penalty: Annotated[
        float | None, typer.Option(help="Above 1: against tokens of prompt and answer.")
    ] = None
    set: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Any other field of the request; the value as JSON or text."),
    ] = None

    def parameters(self) -> dict[str, Any]:
        """Those that are given, but for model and system message. Raises CommandError."""
        # Typer gives an empty list for a repeatable option that is not there.
        given = {name: value for name, value in asdict(self).items() if value not in (None, [])}
        others = dict(pair_of(text, "--set") for text in given.pop("set", []))
        for name in ("model", "system"):
            given.pop(name, None)
        return {**given, **{name: read_value(text) for name, text in others.items()}}

    def body(self, client: ApiClient) -> dict[str, Any]:
        """Without messages. Raises CommandError."""
        given = self.parameters()
        return {"model": self.model or default_model(client), **given}


def read_value(text: str) -> Any:
    """A value as JSON; what is none is taken as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def messages_of(system: str | None, prompt: str) -> list[dict[str, str]]:
    """The first turn."""
    return [*system_messages(system), {"role": "user", "content": prompt}]


def system_messages(system: str | None) -> list[dict[str, str]]:
    """The system message, if there is one."""
    return [{"role": "system", "content": system}] if system else []


def default_model(client: ApiClient) -> str:
    """The first that the server lists. Raises CommandError when it lists none."""
    models = client.call("GET", "/v1/models")["data"]
    if not models:
        raise CommandError("the server knows no model; name one with --model", ExitCode.USAGE)
    return str(models[0]["id"])


def pair_of(text: str, option: str) -> tuple[str, str]:
    """`name=value` in its parts. Raises CommandError."""
    name, is_pair, value = text.partition("=")
    if not (name and is_pair):
        raise CommandError(f"{option} {text}: NAME=VALUE is expected", ExitCode.USAGE)
    return name, value
