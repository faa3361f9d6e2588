"""The house stays in order: small folders, and none of the words that only its first builders knew."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = ("api", "workers", "shared", "cli", "tools", "bench")
MAX_MODULES = 15
#: Old word -> the field's word. Matched as a whole word, or as a part of a name: `num_bells`, `HeldBell`.
OLD_WORDS = {
    "bell": "wake_up",
    "bells": "wake_ups",
    "ringer": "wake_up_sender",
    "rung": "sent",
    "holder": "claim_token",
    "holders": "claim_tokens",
    "incarnation": "worker_instance",
    "incarnations": "worker_instances",
    "census": "cluster_stats",
    "crew": "task_set",
    "parker": "preemptor",
    "parked": "preempted",
    "engagement": "worker_handle",
    "follower": "subscription",
    "followers": "subscriptions",
    "prompter": "chat_prompt",
    "obituary": "exit_reason",
    "leash": "parent_death",
    "nursery": "fork_server",
    "intake": "sequence_factory",
}
#: Files that may use a word in its plain English sense, each with the word.
ALLOWED = {
    ("shared/settings.py", "holder"),  # "placeholder" is one word; here for names such as `_PLACEHOLDERS`
}
_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [Path(line) for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def sources() -> list[Path]:
    """Code and documents, without what other programs wrote and without this page."""
    found = tracked("*.py", "*.lua", "*.md", "*.c", "*.h", "Makefile", "*.toml", "*.yml")
    skipped = ("docs/reports/", "docs/benchmarks", "tests/unit/test_house.py")
    return [path for path in found if not str(path).startswith(skipped)]


def test_no_folder_is_crowded() -> None:
    counts = Counter(
        str(path.parent)
        for path in tracked("*.py")
        if path.parts[0] in PRODUCT and path.name not in ("__init__.py", "__main__.py")
    )
    assert {folder: num for folder, num in counts.items() if num > MAX_MODULES} == {}


@pytest.mark.parametrize("word", OLD_WORDS)
def test_an_old_word_is_gone(word: str) -> None:
    found = []
    for path in sources():
        text = (ROOT / path).read_text()
        if word not in text.lower() or (str(path), word) in ALLOWED:
            continue
        if any(part.lower() == word for part in _PARTS.findall(text)):
            found.append(str(path))
    assert found == [], f"say {OLD_WORDS[word]!r}"


def test_the_search_for_old_words_finds_them_within_names() -> None:
    assert [part.lower() for part in _PARTS.findall("num_bells HeldBell BELL_TASK placeholder")] == [
        "num", "bells", "held", "bell", "bell", "task", "placeholder",
    ]  # fmt: skip
