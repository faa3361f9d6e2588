"""The generated pages in docs/ match the settings and commands in the code."""

from __future__ import annotations

from pathlib import Path

from shared.settings import VARIABLES
from tools.docs import reference

DOCS = Path(__file__).parents[4] / "docs"


def test_the_pages_are_those_that_make_docs_writes(tmp_path: Path) -> None:
    reference.main(str(tmp_path))
    for page in ("configuration.md", "commands.md"):
        assert (DOCS / page).read_text() == (tmp_path / page).read_text(), "run `make docs`"


def test_every_setting_is_listed_once() -> None:
    page = reference.configuration()
    assert all(page.count(f"| `{variable.name}` |") == 1 for variable in VARIABLES)


def test_every_command_has_a_section() -> None:
    page = reference.commands()
    for path in ("baton", "baton up", "baton chat", "baton workers drain"):
        assert f"\n## {path}\n\n```text\nUsage: {path} " in page
