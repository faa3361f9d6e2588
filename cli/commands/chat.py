"""`baton chat`: talk to the model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cli.chat.conversation import Conversation
from cli.chat.session import ChatSession
from cli.client.endpoint import home_of
from cli.client.generation_options import GenerationOptions
from cli.client.server_options import Server
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.terminal.notice import Notice
from cli.terminal.prompt_argument import read_prompt

_HINT = "Ctrl-C stops an answer, Ctrl-D leaves, /help shows the commands."


def chat(
    asking: GenerationOptions,
    server: Server,
    prompt: Annotated[str | None, typer.Argument(help="Ask this one question and leave.")] = None,
    go_on: Annotated[
        bool, typer.Option("--continue", help="Go on with the last conversation of this BATON_HOME.")
    ] = False,
) -> None:
    """Chat in the terminal, or ask one question, given as an argument or on standard input.

    An answer whose connection breaks is taken up again, at another URL if several are known.
    """
    question = None if prompt is None and sys.stdin.isatty() else read_prompt(prompt)
    folder = _chat_folder()
    last = folder / "last.json" if folder else None
    with server.client() as client:
        conversation = Conversation(client, asking.body(client), asking.system)
        if go_on:
            if last is None:
                raise CommandError("there is no BATON_HOME here that keeps conversations", ExitCode.USAGE)
            conversation.load(last)
            Notice.tell(f"{len(conversation.messages)} messages so far")
        if question is None:
            sys.stdout.write(f"{conversation.body['model']}. {_HINT}\n")
            ChatSession(conversation, _line_reader(folder), last).run()
        else:
            conversation.ask(question)


def _chat_folder() -> Path | None:
    """`$BATON_HOME/chat`; none where there is no home, which a chat alone does not make."""
    home = home_of()
    if not home.path.is_dir():
        return None
    folder = home.path / "chat"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:  # a home that is somebody else's
        return None
    return folder


def _line_reader(folder: Path | None) -> Callable[[], str]:
    """Lines with editing and a history that outlives the session, if there is a place for it."""
    # Half a second that the other commands do without.
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    history = FileHistory(str(folder / "history")) if folder else InMemoryHistory()
    session = PromptSession[str](history=history)
    return lambda: session.prompt("> ")
