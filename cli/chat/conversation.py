"""Conversation: what was said, how the model is asked, and the next turn."""

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
    """`body` is the request without its messages: the model and what was set."""

    def __init__(self, client: ApiClient, body: dict[str, Any], system: str | None) -> None:
        self._client = client
        self.body = body
        self.system = system
        #: Questions and answers, without the system message.
        self.messages: list[dict[str, str]] = []

    def ask(self, prompt: str) -> None:
        """Print the answer as it comes, and remember it with its question, as far as it came.

        Raises CommandError when it fails. KeyboardInterrupt cancels it and goes on to the caller.
        """
        said = [*self.messages, {"role": "user", "content": prompt}]
        turn = ChatTurn(self._client, {**self.body, "messages": [*system_messages(self.system), *said]})
        try:
            with Notice() as notice:
                for piece in turn.pieces(notice.cut):
                    notice.clear()
                    write_text(sys.stdout, piece)
        except KeyboardInterrupt:
            _cancel(turn)
            raise
        finally:
            if turn.answer:
                self.messages = [*said, {"role": "assistant", "content": turn.answer}]
            write_text(sys.stdout, "\n")
        if turn.finish_reason == "length":
            Notice.tell("the answer reached its token limit")

    def save(self, path: Path) -> None:
        """For this user alone: it holds what was said. Raises CommandError."""
        kept = {**self.body, "messages": [*system_messages(self.system), *self.messages]}
        new = path.with_name(path.name + ".new")
        try:
            with open(new, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
            new.replace(path)
        except OSError as error:
            raise CommandError(f"{path} not written: {error.strerror}", ExitCode.FAILED) from error

    def load(self, path: Path) -> None:
        """Go on where a saved one stood; what was set on this one stays. Raises CommandError."""
        try:
            kept = json.loads(path.read_text())
            messages = kept.pop("messages")
            begins = [str(m["content"]) for m in messages if m["role"] == "system"]
            self.messages = [
                {"role": str(m["role"]), "content": str(m["content"])}
                for m in messages
                if m["role"] != "system"
            ]
        except OSError as error:
            raise CommandError(f"no conversation in {path}: {error.strerror}", ExitCode.USAGE) from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CommandError(f"{path} is not a conversation that was saved", ExitCode.USAGE) from error
        self.system = self.system or next(iter(begins), None)
        self.body = {**kept, **self.body}


def _cancel(turn: ChatTurn) -> None:
    """A job that cannot be reached now is cancelled by the servers: nobody reads it any more."""
    try:
        turn.cancel()
    except CommandError as error:
        Notice.tell(f"not cancelled: {error}")
