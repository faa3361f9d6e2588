from __future__ import annotations

import pytest

from cli.supervisor.display.log_line import log_text


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"time": "t", "message": "loading model 40 %"}', "loading model 40 %"),
        ('{"message": "it failed", "error": {"type": "OSError", "trace": ["a.py:1 f"]}}',
         "it failed\na.py:1 f\nOSError"),
        ("2026-01-01T00:00:00.000Z INFO    worker-1 workers.loading: loading", "loading"),
        ("1:M 01 Jan 2026 # Redis says: this", "1:M 01 Jan 2026 # Redis says: this"),
        ("[1, 2]", "[1, 2]"),
        ("BATON_PORT=x: must be a number", "BATON_PORT=x: must be a number"),
    ],
)  # fmt: skip
def test_a_person_sees_the_message(line: str, text: str) -> None:
    assert log_text(line) == text
