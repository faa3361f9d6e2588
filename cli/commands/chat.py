"""`baton chat`: a conversation with the model."""

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

_HINT = "Ctrl-C stops an answer, Ctrl-D exits, /help lists the commands."


def chat(
    options: GenerationOptions,
    server: Server,
    prompt: Annotated[str | None, typer.Argument(help="Ask this one question and exit.")] = None,
    go_on: Annotated[
        bool, typer.Option("--continue", help="Continue the last conversation of this BATON_HOME.")
    ] = False,
) -> None:
    """Chat with the model in the terminal.

    Answers one question and exits if the question is given as an argument or on standard input. If the connection
    breaks, the answer resumes where it stopped, at another URL if there are several.
    """
    question = None if prompt is None and sys.stdin.isatty() else read_prompt(prompt)
    folder = _chat_folder()
    last = folder / "last.json" if folder else None
    with server.client() as client:
        conversation = Conversation(client, options.body(client), options.system)
        if go_on:
            if last is None:
                message = "no conversation to continue: BATON_HOME does not exist or is not writable"
                raise CommandError(message, ExitCode.USAGE)
            conversation.load(last)
            Notice.show(f"{len(conversation.messages)} messages so far")
        if question is None:
            sys.stdout.write(f"{conversation.body['model']}. {_HINT}\n")
            ChatSession(conversation, _line_reader(folder), last).run()
        else:
            conversation.ask(question)


def _chat_folder() -> Path | None:
    """`$BATON_HOME/chat`; None if there is no home, because a chat does not create one."""
    home = home_of()
    if not home.path.is_dir():
        return None
    folder = home.path / "chat"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:  # the home belongs to another user
        return None
    return folder


def _line_reader(folder: Path | None) -> Callable[[], str]:
    """Returns a function that reads an edited line. The history is kept in the folder, if there is one."""
    # Importing it takes half a second, which other commands should not pay.
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    history = FileHistory(str(folder / "history")) if folder else InMemoryHistory()
    session = PromptSession[str](history=history)
    return lambda: session.prompt("> ")
