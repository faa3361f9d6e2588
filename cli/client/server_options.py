"""Server: the options of every client command that say where the API is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from cli.client.api_client import ApiClient
from cli.client.endpoint import find_endpoint

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@dataclass(frozen=True, slots=True)
class Server:
    """The API, as the command line names it."""

    url: Annotated[
        list[str] | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="Base URL of the API; give several to go on elsewhere when one fails.",
        ),
    ] = None
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", help="Default: the first of BATON_API_KEYS, else OPENAI_API_KEY."),
    ] = None

    def client(self) -> ApiClient:
        """To be used as a context manager. Raises CommandError for an address that is none."""
        return ApiClient(find_endpoint(self.url, self.api_key))
