"""The body of a chat request, and the options of `chat` and `submit` that fill it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.api_client import ApiClient
from cli.errors import CommandError
from cli.exit_codes import ExitCode

ModelOption = Annotated[str | None, typer.Option("--model", "-m", help="Default: the server's first model.")]
SystemOption = Annotated[str | None, typer.Option("--system", "-s", help="System message.")]
MaxTokensOption = Annotated[int | None, typer.Option(help="Longest answer, in tokens.")]
TemperatureOption = Annotated[float | None, typer.Option(help="0: always the likeliest token.")]
TopPOption = Annotated[float | None, typer.Option(help="Least probability mass that is drawn from.")]
SeedOption = Annotated[int | None, typer.Option(help="Same seed, same answer.")]


def chat_body(
    model: str,
    *,
    max_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    seed: int | None,
) -> dict[str, Any]:
    """Without messages; what is None is left to the server."""
    given = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
    return {"model": model, **{name: value for name, value in given.items() if value is not None}}


def user_messages(system: str | None, prompt: str) -> list[dict[str, str]]:
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
