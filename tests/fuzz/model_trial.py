"""ModelTrial: starts a worker on a model in a forked process, and asks transformers for the same answer in another."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import workers.main
import workers.process
from shared.domain.request import ChatMessage, ChatPrompt, GenerationRequest, SamplingOptions
from shared.errors import RequestError
from workers.backends import loading as _preloaded  # noqa: F401  # so that forks need not import it
from workers.backends.backend import Backend, StepOutput
from workers.device import Device
from workers.settings import WorkerSettings

QUESTION = "count from one to thirty"
NUM_TOKENS = 10
#: Time on the CPU, and by the clock, that a start may take. A tiny model takes about a second.
_CPU_S, _WALL_S = 40, 240.0
_MEMORY_BYTES = 6 << 30


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a process ended."""

    #: Its exit status; negative: the signal that ended it. None: it took too long.
    status: int | None
    stderr: str
    #: What it reported before, if anything.
    report: dict[str, Any]

    @property
    def token_ids(self) -> list[int] | None:
        found: list[int] | None = self.report.get("token_ids")
        return found

    @property
    def last_error(self) -> str:
        """The last line of a traceback: the kind of the exception and its text."""
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        return lines[-1] if lines else ""


def start_worker(path: Path) -> Outcome:
    """Load a model as a worker process does, and answer a question greedily."""
    return _in_fork(lambda: _work(path))


def ask_transformers(path: Path) -> Outcome:
    """Answer the same question by transformers' own `generate`."""
    return _in_fork(lambda: _generate(path))


def _work(path: Path) -> int:
    """`python -m workers.main`, but for the device, which is pinned before torch is imported, and the Redis."""
    os.environ |= {
        "BATON_REDIS_URL": "redis://127.0.0.1:1/0", "BATON_MODEL": str(path), "BATON_DTYPE": "float32",
        "BATON_THREADS": "1",
        "BATON_MAX_SLOTS": "2", "BATON_LOG_LEVEL": "error", "BATON_LOG_FORMAT": "text",
        "BATON_WORKER_DEVICE": "cpu",
        "BATON_MODEL_NAME": "fuzzed",
    }  # fmt: skip
    with (
        patch.object(workers.main, "pin", lambda *_args, **_options: Device("cpu", "cpu")),
        patch.object(workers.process, "serve", _answer),
    ):
        return workers.main.main()


def _answer(_settings: WorkerSettings, backend: Backend, _device: str) -> int:
    """Stands in for `serve`: one request instead of a queue of them."""
    prompt = ChatPrompt((ChatMessage("user", QUESTION),))
    request = GenerationRequest((prompt,), 1, SamplingOptions(temperature=0.0, max_tokens=NUM_TOKENS, seed=1))
    try:
        resolved = asyncio.run(_resolved(backend, request))
    except RequestError as error:
        return _report(refused=error.info.message, code=error.info.code)
    ids: list[int] = []
    is_over = threading.Event()
    errors: list[Any] = []

    def on_outputs(outputs: Sequence[StepOutput]) -> None:
        for output in outputs:
            if output.error is not None:
                errors.append(output.error)
                is_over.set()
            for choice in output.choices:
                ids.extend(choice.ids)
                if choice.finish is not None:
                    is_over.set()

    def on_death(error: BaseException) -> NoReturn:
        traceback.print_exception(error)
        sys.stderr.flush()
        os._exit(70)

    backend.start(on_outputs, on_death)
    backend.add("r", resolved)
    is_over.wait()
    if errors:
        return _report(refused=errors[0].message, code=errors[0].code)
    return _report(token_ids=ids)


async def _resolved(backend: Backend, request: GenerationRequest) -> Any:
    resolved = await backend.resolve(request)
    await backend.prepare(resolved)
    return resolved


def _generate(path: Path) -> int:
    """Raises whatever transformers raises."""
    torch.set_num_threads(1)
    source: dict[str, Any] = {"pretrained_model_name_or_path": path}
    if path.suffix == ".gguf":
        source = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32).eval()
    messages = [{"role": "user", "content": QUESTION}]
    inputs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**inputs, max_new_tokens=NUM_TOKENS, do_sample=False, num_beams=1)
    return _report(token_ids=output[0, inputs["input_ids"].shape[1] :].tolist())


# In the forked process

_report_fd = -1


def _report(**found: Any) -> int:
    os.write(_report_fd, json.dumps(found).encode())
    return 0


def _in_fork(body: Callable[[], int]) -> Outcome:
    """Run `body` in a process of its own. It must not have threads when it is called."""
    reader, writer = os.pipe()
    with tempfile.TemporaryFile() as stderr:
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            _live(body, writer, stderr.fileno())
        os.close(writer)
        status = _wait(pid, time.monotonic() + _WALL_S)
        received = b""
        while piece := os.read(reader, 65_536):
            received += piece
        os.close(reader)
        stderr.seek(0)
        said = stderr.read().decode(errors="replace")
    return Outcome(status, said, json.loads(received) if received else {})


def _live(body: Callable[[], int], writer: int, stderr: int) -> NoReturn:
    global _report_fd
    _report_fd = writer
    os.dup2(stderr, 1)
    os.dup2(stderr, 2)
    sys.stdout = sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115  # for the rest of this process
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S + 2))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    status = 1
    try:
        status = body()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _wait(pid: int, deadline: float) -> int | None:
    """Return the exit status. None: it used up its time, by the clock or on the CPU."""
    fd = os.pidfd_open(pid)
    try:
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(fd)
    return None if not ready or status in (-signal.SIGXCPU, -signal.SIGKILL) else status
