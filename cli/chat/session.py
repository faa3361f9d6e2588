"""An interactive chat in the terminal, with commands that start with a slash."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from cli.chat.conversation import Conversation
from cli.client.generation_options import read_value
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.terminal.notice import Notice

HELP = """\
/system TEXT      set the system message; without TEXT: remove it
/set NAME VALUE   set a parameter, as in /set temperature 0.2; without VALUE: use the default
/set              show the parameters that are set
/reset            clear the conversation
/save FILE        save the conversation as JSON
/exit             exit; so does Ctrl-D
//…               send a message that starts with a slash
Ctrl-C stops an answer; a second Ctrl-C exits.
"""
#: Request fields that the session sets itself.
_RESERVED = frozenset({"messages", "stream", "stream_options", "n"})


class ChatSession:
    """`read` returns the next line. It raises EOFError at the end of input and KeyboardInterrupt for Ctrl-C."""

    def __init__(self, conversation: Conversation, read: Callable[[], str], keep: Path | None) -> None:
        self._conversation = conversation
        self._read = read
        #: Where to save the conversation after each turn.
        self._keep = keep
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: self._print(HELP),
            "/system": self._set_system,
            "/set": self._set,
            "/reset": self._reset,
            "/clear": self._reset,
            "/save": self._save,
            "/exit": self._leave,
            "/quit": self._leave,
        }

    def run(self) -> None:
        """Runs until the end of input. Raises KeyboardInterrupt after two Ctrl-C in a row."""
        was_interrupted = False
        while True:
            try:
                line = self._read().strip()
                was_interrupted = False
                self._run_line(line)
            except KeyboardInterrupt:
                if was_interrupted:
                    raise
                was_interrupted = True
                Notice.show("press Ctrl-C again to exit")
            except EOFError:
                return
            except CommandError as error:
                Notice.show(str(error))

    def _run_line(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        if line.startswith("/") and not line.startswith("//"):
            if name not in self._commands:
                raise CommandError(f"unknown command {name}; /help lists the commands", ExitCode.USAGE)
            self._commands[name](rest.strip())
        elif line:
            self._ask(line.removeprefix("/"))

    def _ask(self, prompt: str) -> None:
        try:
            self._conversation.ask(prompt)
        finally:
            if self._keep is not None:
                self._conversation.save(self._keep)

    def _set_system(self, text: str) -> None:
        self._conversation.system = text or None

    def _set(self, text: str) -> None:
        name, _, value = text.partition(" ")
        body = self._conversation.body
        if not name:
            self._print("".join(f"{key} {json.dumps(set_)}\n" for key, set_ in body.items()))
        elif name in _RESERVED or (name == "model" and not value):
            raise CommandError(f"{name} cannot be set here", ExitCode.USAGE)
        elif value:
            body[name] = value.strip() if name == "model" else read_value(value.strip())
        else:
            body.pop(name, None)

    def _reset(self, _: str) -> None:
        self._conversation.messages = []

    def _save(self, name: str) -> None:
        if not name:
            raise CommandError("/save needs a file name", ExitCode.USAGE)
        path = Path(name).expanduser()
        self._conversation.save(path)
        Notice.show(f"saved as {path}")

    def _leave(self, _: str) -> None:
        raise EOFError

    def _print(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
