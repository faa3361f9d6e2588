"""Creates the contestants for a set of weights, as far as they are available."""

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
class Setup:
    """Directories and sizes that all contestants share."""

    venvs: VirtualEnvs
    #: Parent of the homes of Baton.
    home: Path
    logs: Path
    slots: int
    cores: int
    version: str
    #: Settings of further variants of Baton.
    variants: Sequence[Mapping[str, str]] = ()


def line_up(
    weights: Weights, rivals: Sequence[Rival], setup: Setup
) -> tuple[list[Contestant], dict[str, str]]:
    """Returns Baton, its variants and the rivals, and the reasons why some rivals are missing."""
    contestants: list[Contestant] = [
        _server(_baton(weights, setup, number, settings), setup)
        for number, settings in enumerate(({}, *setup.variants))
    ]
    missing: dict[str, str] = {}
    for rival in rivals:
        for name, make in _makers(rival, weights, setup):
            try:
                contestants.append(make())
            except PeerUnavailable as error:
                missing[name] = str(error)
    return contestants, missing


def _makers(rival: Rival, weights: Weights, setup: Setup) -> Iterator[tuple[str, Callable[[], Contestant]]]:
    venvs, model = setup.venvs, weights.directory
    match rival:
        case "llama.cpp":
            for kind, gguf in weights.ggufs.items():
                yield (
                    f"llama.cpp {kind}",
                    lambda kind=kind, gguf=gguf: _server(  # type: ignore[misc]
                        llama_server(venvs, gguf, kind, setup.slots, setup.cores), setup
                    ),
                )
        case "vllm":
            yield "vLLM", lambda: _server(vllm(venvs, model, setup.slots), setup)
        case "transformers":
            yield "transformers serve", lambda: _server(transformers_serve(venvs, model), setup)
        case "litserve":
            yield "LitServe", lambda: _server(litserve(venvs, model, setup.slots), setup)
        case "loop":
            log = setup.logs / "loop.log"
            version = "bare loop: torch and transformers of Baton"
            yield "bare loop", lambda: BareLoop(model, setup.cores, version, log)


def _baton(weights: Weights, setup: Setup, number: int, settings: Mapping[str, str]) -> Peer:
    return baton(weights.directory, setup.home / str(number), setup.slots, setup.version, settings)


def _server(peer: Peer, setup: Setup) -> Server:
    return Server(peer, setup.logs / f"{peer.name.replace(' ', '-')}.log")
