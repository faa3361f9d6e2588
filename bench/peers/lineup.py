"""Lineup: the contestants for some weights, as far as they can be had."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.peers.contestant import Contestant
from bench.peers.peer import Peer, PeerUnavailable
from bench.peers.rivals.bare_loop import BareLoop
from bench.peers.rivals.baton import baton
from bench.peers.rivals.litserve import litserve
from bench.peers.rivals.llama_cpp import llama_server
from bench.peers.rivals.transformers_serve import transformers_serve
from bench.peers.rivals.virtual_env import VirtualEnvs
from bench.peers.rivals.vllm import vllm
from bench.peers.server import Server
from bench.peers.weights.forms import Weights

Rival = Literal["llama.cpp", "vllm", "transformers", "litserve", "loop"]
RIVALS: tuple[Rival, ...] = ("llama.cpp", "vllm", "transformers", "litserve", "loop")


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything lies, and how large it may be."""

    venvs: VirtualEnvs
    #: Of Baton while it runs.
    home: Path
    logs: Path
    slots: int
    cores: int
    version: str
    #: Settings of further Batons.
    variants: Sequence[Mapping[str, str]] = ()


def line_up(
    weights: Weights, rivals: Sequence[Rival], place: Place
) -> tuple[list[Contestant], dict[str, str]]:
    """Baton and its variants, the rivals, and why some of these are missing."""
    contestants: list[Contestant] = [
        _server(_baton(weights, place, number, settings), place)
        for number, settings in enumerate(({}, *place.variants))
    ]
    missing: dict[str, str] = {}
    for rival in rivals:
        for name, make in _makers(rival, weights, place):
            try:
                contestants.append(make())
            except PeerUnavailable as error:
                missing[name] = str(error)
    return contestants, missing


def _makers(rival: Rival, weights: Weights, place: Place) -> Iterator[tuple[str, Callable[[], Contestant]]]:
    venvs, model = place.venvs, weights.directory
    match rival:
        case "llama.cpp":
            for kind, gguf in weights.ggufs.items():
                yield (
                    f"llama.cpp {kind}",
                    lambda kind=kind, gguf=gguf: _server(  # type: ignore[misc]
                        llama_server(venvs, gguf, kind, place.slots, place.cores), place
                    ),
                )
        case "vllm":
            yield "vLLM", lambda: _server(vllm(venvs, model, place.slots), place)
        case "transformers":
            yield "transformers serve", lambda: _server(transformers_serve(venvs, model), place)
        case "litserve":
            yield "LitServe", lambda: _server(litserve(venvs, model, place.slots), place)
        case "loop":
            log = place.logs / "loop.log"
            version = "bare loop: torch and transformers of Baton"
            yield "bare loop", lambda: BareLoop(model, place.cores, version, log)


def _baton(weights: Weights, place: Place, number: int, settings: Mapping[str, str]) -> Peer:
    return baton(weights.directory, place.home / str(number), place.slots, place.version, settings)


def _server(peer: Peer, place: Place) -> Server:
    return Server(peer, place.logs / f"{peer.name.replace(' ', '-')}.log")
