"""`baton chat`: talk to the model."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from cli.api_client import ApiClient
from cli.chat_turn import ChatTurn
from cli.endpoint import KeyOption, UrlOption, find_endpoint
from cli.errors import CommandError
from cli.notice import Notice
from cli.request import (
    MaxTokensOption,
    ModelOption,
    SeedOption,
    SystemOption,
    TemperatureOption,
    TopPOption,
    chat_body,
    default_model,
    system_messages,
)

_HINT = "Ctrl-C stops an answer, Ctrl-D leaves, /clear forgets what was said."


def chat(
    prompt: Annotated[str | None, typer.Argument(help="Ask this one question and leave.")] = None,
    model: ModelOption = None,
    system: SystemOption = None,
    max_tokens: MaxTokensOption = None,
    temperature: TemperatureOption = None,
    top_p: TopPOption = None,
    seed: SeedOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Chat in the terminal, or ask one question, given as an argument or on standard input.

    An answer whose connection breaks is taken up again, at another URL if several are given.
    """
    with ApiClient(find_endpoint(url, api_key)) as client:
        name = model or default_model(client)
        body = chat_body(name, max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
        conversation = Conversation(client, body, system)
        if prompt is None and sys.stdin.isatty():
            sys.stdout.write(f"{name}. {_HINT}\n")
            _converse(conversation)
        else:
            conversation.ask(prompt if prompt is not None else sys.stdin.read())


class Conversation:
    """What was said, and the next turn."""

    def __init__(self, client: ApiClient, body: dict[str, Any], system: str | None) -> None:
        self._client = client
        self._body = body
        self._start = system_messages(system)
        self.messages = list(self._start)

    def clear(self) -> None:
        """Begin anew."""
        self.messages = list(self._start)

    def ask(self, prompt: str) -> None:
        """Print the answer as it comes, and remember it with its question, as far as it came.

        Raises CommandError when it fails. KeyboardInterrupt cancels it and goes on to the caller.
        """
        messages = [*self.messages, {"role": "user", "content": prompt}]
        turn = ChatTurn(self._client, {**self._body, "messages": messages})
        try:
            with Notice() as notice:
                for piece in turn.pieces(notice.cut):
                    notice.clear()
                    sys.stdout.write(piece)
                    sys.stdout.flush()
        except KeyboardInterrupt:
            turn.cancel()
            raise
        finally:
            if turn.answer:
                self.messages = [*messages, {"role": "assistant", "content": turn.answer}]
            sys.stdout.write("\n")
        if turn.finish_reason == "length":
            Notice.tell("the answer reached its token limit")


def _converse(conversation: Conversation) -> None:
    """Until Ctrl-D."""
    from prompt_toolkit import PromptSession  # the other commands do without

    session = PromptSession[str]()
    while True:
        try:
            prompt = session.prompt("> ").strip()
            if prompt == "/clear":
                conversation.clear()
            elif prompt:
                conversation.ask(prompt)
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        except CommandError as error:
            Notice.tell(str(error))
