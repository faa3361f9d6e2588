"""How Baton is started for a measurement."""

from __future__ import annotations

from pathlib import Path

from bench.peers.rivals.baton import baton


def test_it_has_its_defaults_but_for_its_place_and_slots() -> None:
    peer = baton(Path("/model"), Path("/home"), 8, "1", {"threads": "2"})
    flags = dict(zip(peer.command[4::2], peer.command[5::2], strict=True))
    assert flags.pop("--flower-port").isdigit()
    assert flags == {
        "--home": "/home",
        "--model": "/model",
        "--model-name": "bench",
        "--port": "{port}",
        "--devices": "cpu",
        "--max-slots": "8",
    }
    assert (peer.name, peer.environ, peer.extra) == (
        "baton threads=2",
        {"BATON_THREADS": "2"},
        {"ignore_eos": True},
    )
