"""The requests of Server, and how it times or gives up a start."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench.peers.peer import Peer, PeerUnavailable
from bench.peers.server import Server
from bench.peers.weights.prompts import Chat
from cli.bench.load import Bounds

CHAT = Chat(({"role": "user", "content": "one"},), (1, 2))
#: Answers every POST with two pieces, after a first one that it refuses.
_SERVER = """
import http.server, sys
body = b'data: {"choices":[{"delta":{"content":"a"}}]}\\n\\n' * 2
body += b'data: {"choices":[],"usage":{"completion_tokens":2,"prompt_tokens":2}}\\n\\ndata: [DONE]\\n\\n'
class Handler(http.server.BaseHTTPRequestHandler):
    refused = False
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200 if Handler.refused else 503)
        Handler.refused = True
        self.send_header("content-length", len(body))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def server(tmp_path: Path, code: str) -> Server:
    peer = Peer("a", "1", (sys.executable, "-c", code, "{port}"), "m", extra={"ignore_eos": True})
    return Server(peer, tmp_path / "log")


def test_a_request_is_greedy_streamed_and_tells_its_usage(tmp_path: Path) -> None:
    assert json.loads(server(tmp_path, "").body(CHAT, 7)) == {
        "model": "m",
        "messages": [{"role": "user", "content": "one"}],
        "max_tokens": 7,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
    }


def test_it_has_started_with_the_first_answer_and_then_answers(tmp_path: Path) -> None:
    running = server(tmp_path, _SERVER)
    try:
        assert 0 < running.start(CHAT) < 30
        samples = running.answer([CHAT] * 5, 2, 2, Bounds(5, None))
        assert [(sample.error, sample.num_tokens, sample.prompt_tokens) for sample in samples] == [
            (None, 2, 2)
        ] * 5
    finally:
        running.stop()


def test_one_that_ends_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    failing = server(tmp_path, "import sys; sys.exit('no such model\\n')")
    with pytest.raises(PeerUnavailable, match="ended: no such model"):
        failing.start(CHAT)
    failing.stop()
