"""Updates parts of a Markdown page. Each part is enclosed by two comments with its name."""

from __future__ import annotations

from pathlib import Path


class NoMarkers(ValueError):
    """Raised when the page does not have the comments that enclose a part."""


def check_markers(path: Path, name: str) -> None:
    """Checks the page before anything is measured. Raises NoMarkers."""
    _split(path.read_text(encoding="utf-8") if path.is_file() else "", path, name)


def write_part(path: Path, name: str, text: str) -> None:
    """Replaces the text between the markers. Raises NoMarkers."""
    before, after = _split(path.read_text(encoding="utf-8"), path, name)
    path.write_text(f"{before}\n{text.strip()}\n{after}", encoding="utf-8")


def _split(page: str, path: Path, name: str) -> tuple[str, str]:
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise NoMarkers(f"{path} does not contain {begin} followed by {end}; add both lines")
    return before + begin, end + after
