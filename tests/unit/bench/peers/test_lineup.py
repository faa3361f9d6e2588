"""Which contestants are measured for given weights, how they are started, and which are missing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench.peers.lineup import RIVALS, Setup, line_up
from bench.peers.peer import PeerUnavailable
from bench.peers.rivals.virtual_env import VirtualEnvs
from bench.peers.weights.forms import Weights

WEIGHTS = Weights("w", "W", Path("/w"), {"BF16": Path("/w.gguf"), "Q8_0": Path("/q.gguf")})


class Envs(VirtualEnvs):
    """All environments exist except one."""

    def __init__(self, missing: str | None = None) -> None:
        super().__init__(Path("/envs"), None)
        self._missing = missing

    def make(self, name: str, **_options: object) -> Path:
        if name == self._missing:
            raise PeerUnavailable(f"no {name}")
        return Path("/envs") / name / "bin"


def setup(envs: VirtualEnvs, *variants: dict[str, str]) -> Setup:
    return Setup(envs, Path("/home"), Path("/logs"), slots=8, cores=2, version="1", variants=variants)


@pytest.fixture(autouse=True)
def llama_binary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "check_output", lambda *_args, **_options: "/bin/llama-server\n")


def test_every_rival_stands_beside_baton() -> None:
    contestants, missing = line_up(WEIGHTS, RIVALS, setup(Envs()))
    names = [contestant.name for contestant in contestants]
    rivals = ["llama.cpp BF16", "llama.cpp Q8_0", "vLLM", "transformers serve", "LitServe", "bare loop"]
    assert (names, missing) == (["baton", *rivals], {})


def test_one_that_cannot_be_had_is_named() -> None:
    contestants, missing = line_up(WEIGHTS, ("llama.cpp", "vllm"), setup(Envs("llama.cpp")))
    assert [contestant.name for contestant in contestants] == ["baton", "vLLM"]
    assert missing == {"llama.cpp BF16": "no llama.cpp", "llama.cpp Q8_0": "no llama.cpp"}


def test_a_variant_is_one_more_baton() -> None:
    contestants, _ = line_up(WEIGHTS, (), setup(Envs(), {"threads": "2", "quant": "int8"}))
    assert [contestant.name for contestant in contestants] == ["baton", "baton threads=2 quant=int8"]
