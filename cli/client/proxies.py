"""open_client: an HTTP client that uses the proxy of the environment, but never for this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

import httpx
import psutil

from cli.errors import CommandError
from cli.exit_codes import ExitCode
from shared.settings import is_loopback


def open_client(
    urls: Iterable[str],
    *,
    headers: Mapping[str, str],
    timeout: httpx.Timeout,
    transport: httpx.BaseTransport | None = None,
) -> httpx.Client:
    """A client for servers at these URLs. Raises CommandError if the proxy of the environment cannot be used.

    A proxy cannot reach a loopback address of this machine, and HTTP_PROXY or ALL_PROXY is often set without NO_PROXY.
    """
    targets = [httpx.URL(url) for url in urls]
    direct = [url.host for url in targets if is_this_machine(url.host)]
    # A mount without a transport means no proxy: https://www.python-httpx.org/advanced/transports/#routing
    mounts = {f"all://[{host}]" if ":" in host else f"all://{host}": None for host in direct}
    try:
        return httpx.Client(
            headers=headers,
            timeout=timeout,
            transport=transport,
            mounts=mounts,
            trust_env=len(direct) < len(targets),
            # SSL_CERT_FILE and SSL_CERT_DIR count for this machine as well.
            verify=httpx.create_ssl_context() if any(url.scheme == "https" for url in targets) else True,
        )
    except (ImportError, ValueError, OSError) as error:
        # A SOCKS proxy without the package for it, an unknown scheme, or an SSL_CERT_FILE that is missing.
        message = f"the environment's HTTP proxy or certificates cannot be used: {error}"
        raise CommandError(message, ExitCode.USAGE) from error


def is_this_machine(host: str) -> bool:
    """Whether the host is a loopback name, or an address of one of this machine's interfaces."""
    if is_loopback(host):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.endswith(".localhost")
    own = [entry.address.partition("%")[0] for found in psutil.net_if_addrs().values() for entry in found]
    return address.is_unspecified or str(address) in own
