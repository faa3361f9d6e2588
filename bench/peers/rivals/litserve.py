"""LitServe with its OpenAISpec and batching, around a padded `generate` (litserve_app.py)."""

from __future__ import annotations

from pathlib import Path

from bench.peers.peer import Peer
from bench.peers.rivals.virtual_env import VirtualEnvs

_APP = Path(__file__).with_name("litserve_app.py")


def litserve(venvs: VirtualEnvs, model: Path, slots: int) -> Peer:
    """Raises PeerUnavailable."""
    bin_directory = venvs.make("hf")
    options = ("--model", str(model), "--slots", str(slots), "--port", "{port}")
    return Peer(
        name="LitServe",
        version="litserve 0.2.19, padded generate of transformers 5.23.0",
        # -P keeps the modules next to the program off its path.
        command=(str(bin_directory / "python"), "-P", str(_APP), *options),
        model="bench",
        environ={"HF_HUB_OFFLINE": "1"},
    )
