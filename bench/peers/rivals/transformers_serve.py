"""`transformers serve --continuous-batching`."""

from __future__ import annotations

import json
from pathlib import Path

from bench.peers.peer import Peer
from bench.peers.rivals.virtual_env import VirtualEnvs


def transformers_serve(venvs: VirtualEnvs, model: Path) -> Peer:
    """Raises PeerUnavailable."""
    bin_directory = venvs.make("hf")
    options = ("--continuous-batching", "--host", "127.0.0.1", "--port", "{port}", "--device", "cpu")
    return Peer(
        name="transformers serve",
        version="transformers 5.23.0, --continuous-batching",
        command=(str(bin_directory / "transformers"), "serve", str(model), *options, "--dtype", "bfloat16"),
        model=str(model),
        environ={"HF_HUB_OFFLINE": "1"},
        # It has no `ignore_eos`, so this replaces the model's generation config.
        extra={"generation_config": json.dumps({"do_sample": False, "eos_token_id": -1, "pad_token_id": 0})},
    )
