"""A conversation: its messages, its request parameters, and how it is saved and loaded."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from cli.chat.turn import ChatTurn
from cli.client.api_client import ApiClient
from cli.client.generation_options import system_messages
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.terminal.notice import Notice
from cli.terminal.safe_text import write_text


class Conversation:
    """`body` is the request without its messages: the model and the parameters that were set."""

    def __init__(self, client: ApiClient, body: dict[str, Any], system: str | None) -> None:
        self._client = client
        self.body = body
        self.system = system
        #: Questions and answers, without the system message.
        self.messages: list[dict[str, str]] = []

    def ask(self, prompt: str) -> None:
        """Print the answer as it is generated, and keep the question and whatever was received of the answer.

        Raises CommandError if it fails. On KeyboardInterrupt, cancels the answer and raises it again.
        """
        history = [*self.messages, {"role": "user", "content": prompt}]
        turn = ChatTurn(self._client, {**self.body, "messages": [*system_messages(self.system), *history]})
        try:
            with Notice() as notice:
                for piece in turn.pieces(notice.connection_lost):
                    notice.clear()
                    write_text(sys.stdout, piece)
        except KeyboardInterrupt:
            _cancel(turn)
            raise
        finally:
            if turn.answer:
                self.messages = [*history, {"role": "assistant", "content": turn.answer}]
            write_text(sys.stdout, "\n")
        if turn.finish_reason == "length":
            Notice.show("the answer was cut off at its token limit")

    def save(self, path: Path) -> None:
        """Only this user can read the file, because it holds the messages. Raises CommandError."""
        kept = {**self.body, "messages": [*system_messages(self.system), *self.messages]}
        new = path.with_name(path.name + ".new")
        try:
            with open(
                new, "w", opener=lambda name, flags: os.open(name, flags, 0o600), encoding="utf-8"
            ) as file:
                file.write(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
            new.replace(path)
        except OSError as error:
            raise CommandError(f"cannot write {path}: {error.strerror}", ExitCode.FAILED) from error

    def load(self, path: Path) -> None:
        """Continue a saved conversation. Parameters set on this one are kept. Raises CommandError."""
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            messages = kept.pop("messages")
            systems = [str(m["content"]) for m in messages if m["role"] == "system"]
            self.messages = [
                {"role": str(m["role"]), "content": str(m["content"])}
                for m in messages
                if m["role"] != "system"
            ]
        except OSError as error:
            raise CommandError(f"cannot read {path}: {error.strerror}", ExitCode.USAGE) from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CommandError(f"{path} is not a saved conversation", ExitCode.USAGE) from error
        self.system = self.system or next(iter(systems), None)
        self.body = {**kept, **self.body}


def _cancel(turn: ChatTurn) -> None:
    """If the server cannot be reached now, it cancels the job itself once it notices the disconnect."""
    try:
        turn.cancel()
    except CommandError as error:
        Notice.show(f"not cancelled: {error}")
