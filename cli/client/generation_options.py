"""The generation options of `chat` and `submit`, and how they become a request body."""

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
    """The parameters of a request besides its prompt, named as in the API. None: the server's default."""

    model: Annotated[str | None, typer.Option("--model", "-m", help="Default: the server's first model.")] = (
        None
    )
    system: Annotated[str | None, typer.Option("--system", "-s", help="System message.")] = None
    max_tokens: Annotated[int | None, typer.Option(help="Maximum length of the answer in tokens.")] = None
    temperature: Annotated[
        float | None, typer.Option(help="Sampling temperature; 0: always the most likely token.")
    ] = None
    top_p: Annotated[
        float | None,
        typer.Option(help="Nucleus sampling: keep the smallest set of tokens with this total probability."),
    ] = None
    top_k: Annotated[int | None, typer.Option(help="Sample only from the k most likely tokens.")] = None
    min_p: Annotated[
        float | None,
        typer.Option(
            help="Drop tokens less likely than this fraction of the most likely token's probability."
        ),
    ] = None
    seed: Annotated[
        int | None, typer.Option(help="The same request with the same seed gives the same answer.")
    ] = None
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Stop before this text; may be repeated."),
    ] = None
    presence_penalty: Annotated[
        float | None, typer.Option(help="Make tokens that are already in the answer less likely.")
    ] = None
    frequency_penalty: Annotated[
        float | None, typer.Option(help="Make a token less likely each time it occurs in the answer.")
    ] = None
    repetition_penalty: Annotated[
        float | None,
        typer.Option(help="Above 1: make tokens of the prompt and the answer less likely."),
    ] = None
    set: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Set any other request field; the value is JSON or text."),
    ] = None

    def parameters(self) -> dict[str, Any]:
        """The parameters that were given, without the model and the system message. Raises CommandError."""
        # Typer passes an empty list for a repeatable option that was not given.
        given = {name: value for name, value in asdict(self).items() if value not in (None, [])}
        others = dict(pair_of(text, "--set") for text in given.pop("set", []))
        for name in ("model", "system"):
            given.pop(name, None)
        return {**given, **{name: read_value(text) for name, text in others.items()}}

    def body(self, client: ApiClient) -> dict[str, Any]:
        """The request body without its messages. Raises CommandError."""
        given = self.parameters()
        return {"model": self.model or default_model(client), **given}


def read_value(text: str) -> Any:
    """The value as JSON; text that is not JSON is returned as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def messages_of(system: str | None, prompt: str) -> list[dict[str, str]]:
    """The messages of a new conversation."""
    return [*system_messages(system), {"role": "user", "content": prompt}]


def system_messages(system: str | None) -> list[dict[str, str]]:
    """A list with the system message, or an empty one."""
    return [{"role": "system", "content": system}] if system else []


def default_model(client: ApiClient) -> str:
    """The first model that is served. Raises CommandError if there is none."""
    models = client.call("GET", "/v1/models")["data"]
    if not models:
        raise CommandError(
            "no worker serves a model now; start one with `baton workers start`, or choose a model with --model",
            ExitCode.USAGE,
        )
    return str(models[0]["id"])


def pair_of(text: str, option: str) -> tuple[str, str]:
    """Splits `name=value`. Raises CommandError."""
    name, is_pair, value = text.partition("=")
    if not (name and is_pair):
        raise CommandError(f"{option} {text}: expected NAME=VALUE", ExitCode.USAGE)
    return name, value
