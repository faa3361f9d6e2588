"""Updating parts of a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.peers.report.document import NoMarkers, check_markers, write_part

_PAGE = "# Title\n<!-- begin a -->\nold\n<!-- end a -->\nbetween\n<!-- begin b -->\n<!-- end b -->\n"


def test_only_the_part_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(_PAGE)
    write_part(page, "a", "new\nlines\n")
    write_part(page, "b", "more")
    written = page.read_text()
    assert written == _PAGE.replace("old", "new\nlines").replace("b -->\n<!-- end", "b -->\nmore\n<!-- end")
    write_part(page, "a", "old")
    write_part(page, "b", "more")
    assert page.read_text() == written.replace("new\nlines", "old")


@pytest.mark.parametrize("name", ["c", "half"])
def test_a_page_without_the_part_is_refused(tmp_path: Path, name: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(_PAGE + "<!-- begin half -->\n")
    with pytest.raises(NoMarkers, match=f"begin {name}"):
        check_markers(page, name)
    with pytest.raises(NoMarkers):
        check_markers(tmp_path / "none.md", name)
    check_markers(page, "a")
