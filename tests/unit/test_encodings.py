"""Text files and pipes are UTF-8 whatever the locale is: every call that opens one says so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("api", "workers", "shared", "cli", "tools", "bench")
#: Calls of these names, with a receiver or without, open text unless a mode with `b` is given.
_OPENERS = ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile")


def unspecified(source: str) -> Iterator[int]:
    """Yields the lines of calls that leave the encoding to the locale."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        names = {keyword.arg for keyword in node.keywords}
        if "encoding" in names:
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        owner = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
        is_text_pipe = bool(names & {"text", "universal_newlines"})
        is_file = (name in ("read_text", "write_text") and bool(owner)) or _opens_text(node, name, owner)
        if is_text_pipe or is_file:
            yield node.lineno


def _opens_text(node: ast.Call, name: str, owner: str) -> bool:
    if name not in _OPENERS or owner in ("self", "self._client", "Stream", "CheapClient"):
        return False
    if name == "open" and owner == "os":  # returns a descriptor
        return False
    values = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
    modes = [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]
    return not any("b" in mode for mode in modes if len(mode) <= 3)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_text_file_and_pipe_names_its_encoding(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in unspecified(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "call",
    [
        "path.read_text(errors='replace')", "path.write_text('x')", "open('f')", "open('f', 'w')", "path.open('r')",
        "os.fdopen(3, 'w')", "subprocess.run(['a'], text=True)", "tempfile.NamedTemporaryFile(mode='w')",
    ],
)  # fmt: skip
def test_a_call_without_an_encoding_is_found(call: str) -> None:
    assert list(unspecified(f"x = 1\n{call}")) == [2]
    assert list(unspecified(call.replace(")", ", encoding='utf-8')"))) == []


@pytest.mark.parametrize(
    "call", ["open('f', 'rb')", "path.open('ab')", "os.open('f', 1)", "subprocess.run(['a'])"]
)
def test_bytes_need_no_encoding(call: str) -> None:
    assert list(unspecified(call)) == []
