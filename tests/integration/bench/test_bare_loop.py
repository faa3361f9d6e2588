"""The bare loop as a process: batch after batch, and the error when the process has ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.peers.peer import PeerUnavailable
from bench.peers.rivals.bare_loop import BareLoop
from bench.peers.weights.prompts import Chat
from cli.bench.load import Bounds
from tests.tiny_chat_model import make_tiny_chat_model

CHATS = [Chat((), tuple(range(first, first + 9))) for first in (5, 50, 100)]


def test_batches_follow_one_another(tmp_path: Path) -> None:
    model = make_tiny_chat_model(tmp_path / "tiny")
    loop = BareLoop(model, 1, "1", tmp_path / "log")
    try:
        assert loop.start(CHATS[0]) > 0
        samples = loop.answer(CHATS, 4, 2, Bounds(3, None))
    finally:
        loop.stop()
    counts = [(sample.num_tokens, sample.prompt_tokens, sample.error) for sample in samples]
    assert counts == [(4, 9, None)] * 3
    assert samples[0].texts == samples[1].texts
    assert samples[1].ended <= samples[2].sent < samples[2].texts[0]


def test_a_process_that_ends_is_told(tmp_path: Path) -> None:
    loop = BareLoop(tmp_path / "nothing", 1, "1", tmp_path / "log")
    with pytest.raises(PeerUnavailable, match="the loop process has ended"):
        loop.start(CHATS[0])
    loop.stop()
