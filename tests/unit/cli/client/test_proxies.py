"""A proxy of the environment is used for other machines, and never for this one."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import httpx
import psutil
import pytest

from cli.client.api_client import ApiClient
from cli.client.endpoint import Endpoint
from cli.client.proxies import is_this_machine, open_client
from cli.errors import CommandError

#: Port 9 is `discard`: nothing answers there.
PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
TIMEOUT = httpx.Timeout(5)


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"path": "%s"}' % self.path.encode())

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def port() -> Iterator[int]:
    """A server on this machine, which also serves as a proxy: it answers with the path that it was asked for."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def path_of(url: str, *, urls: tuple[str, ...] | None = None) -> str:
    with open_client(urls or (url,), headers={}, timeout=TIMEOUT) as client:
        return str(client.get(url).json()["path"])


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "nonsense://127.0.0.1"])
def test_this_machine_is_reached_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch, port: int, name: str, proxy: str
) -> None:
    monkeypatch.setenv(name, proxy)
    with ApiClient(Endpoint((f"http://127.0.0.1:{port}",), None)) as client:
        assert client.call("GET", "/v1/jobs") == {"path": "/v1/jobs"}
    assert path_of(f"http://localhost:{port}/x") == "/x"


def test_another_machine_is_reached_through_the_proxy(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    assert path_of("http://baton.example/v1") == "http://baton.example/v1"


def test_one_client_may_do_both(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{port}")
    own = f"http://127.0.0.1:{port}/own"
    urls = (own, "http://baton.example", "http://[::1]:8000")
    assert path_of(own, urls=urls) == "/own"
    assert path_of("http://baton.example/v1", urls=urls) == "http://baton.example/v1"


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "nonsense://127.0.0.1"])
def test_a_proxy_that_cannot_be_used_is_one_line(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(CommandError, match="proxy"):
        open_client(["http://baton.example"], headers={}, timeout=TIMEOUT)


@pytest.mark.parametrize("host", ["localhost", "baton.example"])
def test_the_certificates_of_the_environment_count(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/none/ca.pem")
    with pytest.raises(CommandError, match="certificates"):
        open_client([f"https://{host}:8443"], headers={}, timeout=TIMEOUT)


def test_what_is_this_machine() -> None:
    own = [
        entry.address for entries in psutil.net_if_addrs().values() for entry in entries if entry.family == 2
    ]
    for host in ("localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", *own):
        assert is_this_machine(host), host
    for host in ("baton.example", "192.0.2.1", "2001:db8::1", "localhost.example"):
        assert not is_this_machine(host), host
