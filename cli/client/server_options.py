"""The options by which client commands find the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from cli.client.api_client import ApiClient
from cli.client.endpoint import find_endpoint

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@dataclass(frozen=True, slots=True)
class Server:
    """The API, as given on the command line."""

    url: Annotated[
        list[str] | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="Base URL of the API. Repeat it to fail over to other replicas.",
        ),
    ] = None
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", help="Default: the first of BATON_API_KEYS, or OPENAI_API_KEY."),
    ] = None

    def client(self) -> ApiClient:
        """Use it as a context manager. Raises CommandError if a URL is not valid."""
        return ApiClient(find_endpoint(self.url, self.api_key))
