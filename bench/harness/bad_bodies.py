"""A client that sends only invalid bodies: `python -m bench.harness.bad_bodies URL RATE`."""

from __future__ import annotations

import http.client
import itertools
import json
import select
import sys
import time
from urllib.parse import urlsplit

CHAT = "/v1/chat/completions"
_MIB = 1_048_576
_HEAD = b'{"model":"tiny","messages":[{"role":"user","content":"hi"}],'


def bad_bodies() -> dict[str, bytes]:
    """Bodies of up to 1 MiB, each invalid in a way that is expensive for a naive parser."""
    many = b",".join(b'"%x":1' % index for index in range(16_000))
    return {
        "half a million integers": b'{"a":[' + b"0," * (_MIB // 2 - 8) + b"0]}",
        "hundreds of thousands of arrays": b'{"a":[' + b"[]," * (_MIB // 3 - 8) + b"0]}",
        "a million brackets": b"[" * _MIB,
        "a hundred thousand fields": b"{" + b'"aaaaa":1,' * (_MIB // 10 - 1) + b'"b":1}',
        "16,000 unknown fields": _HEAD + many + b"}",
        "16,000 pairs of metadata": _HEAD + b'"metadata":{' + many + b"}}",
        "4,000 wrong roles": b'{"model":"tiny","messages":[' + b'{"role":"x","content":""},' * 4000 + b"0]}",
        "16,000 stops": _HEAD + b'"stop":[' + b"1," * 16_000 + b"1]}",
        "a text without an end": _HEAD + b'"user":"' + b'\\",' * (_MIB // 3 - 40),
        "a text of commas": _HEAD + b'"user":"' + b"[," * (_MIB // 2 - 60) + b'"}',
        "a text of escapes": _HEAD + b'"user":"' + b"\\u00e9" * (_MIB // 6 - 20) + b'"}',
        "an unknown name of 1 MiB": _HEAD + b'"' + b"k" * (_MIB - 100) + b'":1}',
        "1 MiB of any bytes": bytes(range(256)) * (_MIB // 256),
        "an unknown model, 1 MiB of prompt": json.dumps(
            {"model": "x", "messages": [{"role": "user", "content": "y" * (_MIB - 100)}]}
        ).encode(),
    }


def attack(url: str, rate: float) -> None:
    """Send invalid bodies until stdin ends, `rate` per second (0: back to back).

    Prints "ready" when each body was rejected once, and at the end the time (ms) of every later rejection.
    """
    target = urlsplit(url)
    connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
    times: list[tuple[str, float]] = []
    bodies = bad_bodies()
    for number, (name, body) in enumerate(itertools.cycle(bodies.items())):
        started = time.perf_counter()
        connection.request("POST", CHAT, body, {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
        if number >= len(bodies):
            times.append((name, 1000 * (time.perf_counter() - started)))
        assert 400 <= response.status < 500, (name, response.status)
        if number == len(bodies) - 1:
            print("ready", flush=True)
        if select.select([sys.stdin], [], [], 0)[0]:
            break
        if rate and number >= len(bodies):
            time.sleep(max(0.0, started + 1 / rate - time.perf_counter()))
    print(json.dumps(times))


if __name__ == "__main__":
    attack(sys.argv[1], float(sys.argv[2]))
