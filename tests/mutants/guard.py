"""Guard: a line of the program without which something would be lost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class PatchDoesNotApply(Exception):
    """Raised when a guard's text does not stand exactly once in its file."""


@dataclass(frozen=True)
class Guard:
    """What is taken out (`old` becomes `new`), and the tests of which at least one must fail then."""

    name: str
    file: str
    old: str
    new: str
    #: Arguments of pytest: a narrow selection.
    tests: tuple[str, ...]

    def without(self, text: str) -> str:
        """The file's text without the guard. Raises PatchDoesNotApply."""
        if text.count(self.old) != 1 or self.old == self.new:
            raise PatchDoesNotApply(f"{self.name}: {self.file} has its text {text.count(self.old)} times")
        return text.replace(self.old, self.new)

    def take_out(self, root: Path) -> str:
        """Change the file under `root`; answers what it was. Raises PatchDoesNotApply."""
        path = root / self.file
        text = path.read_text()
        path.write_text(self.without(text))
        return text
