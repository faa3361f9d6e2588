"""deploy/nginx/nginx.conf: what must stand in it, also where no nginx is at hand to try it."""

from __future__ import annotations

import re
from pathlib import Path

from api.http.serving import sockets
from api.http.serving.protocol import MAX_HEAD_BYTES
from shared import settings

CONF = Path(__file__).parents[2] / "deploy/nginx/nginx.conf"
#: Without comments.
TEXT = re.sub(r"^ *#.*$", "", CONF.read_text(), flags=re.MULTILINE)


def values(name: str) -> list[str]:
    """Of all directives of this name."""
    return re.findall(rf"^ *{name} (.+);$", TEXT, re.MULTILINE)


def test_limits_are_those_of_the_api() -> None:
    limit = settings.BODY_LIMIT.default
    assert values("client_max_body_size") == values("client_body_buffer_size") == [limit]
    assert f"larger than {limit} bytes" in TEXT
    receipt = [f"{settings.RECEIPT_S.default}s"]
    assert values("client_header_timeout") == values("client_body_timeout") == receipt
    ((count, size),) = (value.split() for value in values("large_client_header_buffers"))
    assert int(count) * int(size.removesuffix("k")) * 1024 == MAX_HEAD_BYTES


def test_streams_are_never_held_back() -> None:
    assert values("proxy_buffering") == ["off"]
    assert values("gzip") == []


def test_a_post_is_never_sent_twice_and_an_answer_is_an_answer() -> None:
    assert values("proxy_next_upstream") == ["error timeout"]


def test_nothing_of_nginx_s_own_files_is_served_and_no_query_is_logged() -> None:
    assert values("root") == values("alias") == []
    assert "$request " not in TEXT and "$args" not in TEXT and "$request_uri" not in TEXT


def test_clients_that_vanished_are_noticed_as_by_the_api() -> None:
    idle, interval, count = (sockets.OPTIONS[f"TCP_KEEP{name}"] for name in ("IDLE", "INTVL", "CNT"))
    assert f"8080 so_keepalive={idle}s:{interval}s:{count}" in values("listen")
