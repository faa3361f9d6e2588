from __future__ import annotations

import io

from cli.terminal.safe_text import write_text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_not_moved_by_what_a_model_says() -> None:
    text = "a\x1b]0;title\x07b\tc\nd\r\x9be é 漢"
    terminal, pipe = Terminal(), io.StringIO()
    write_text(terminal, text)
    write_text(pipe, text)
    assert terminal.getvalue() == "a�]0;title�b\tc\nd��e é 漢"
    assert pipe.getvalue() == text
