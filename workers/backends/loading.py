"""Loads a LocalBackend: model, engine and resolver. Logs its progress. Imports torch."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as transformers_logging

from workers.backends.local import LocalBackend
from workers.device import Device
from workers.engine.build import make_engine
from workers.engine.config import EngineConfig
from workers.engine.loading.free_memory import OutOfMemory, is_out_of_memory
from workers.engine.loading.loader import LoadedModel, load_model
from workers.engine.loading.model_files import ModelFiles
from workers.requests.resolver import Resolver
from workers.settings import WorkerSettings

logger = logging.getLogger(__name__)

#: Progress is logged in steps of this many percent.
_PROGRESS_STEP = 10
#: Maximum number of tokens in one step, of all sequences and of one prompt. The first grows with the number of slots.
_STEP_TOKENS, _PREFILL_CHUNK = 256, 128
#: A GPU needs more tokens in a step to be busy. Not measured, see docs/engine.md.
_GPU_STEP_TOKENS, _GPU_PREFILL_CHUNK = 2048, 1024


def load_local(settings: WorkerSettings, device: Device) -> LocalBackend:
    """Load the backend. Blocks for seconds to minutes. Raises BatonError if there is no usable model."""
    transformers_logging.disable_default_handler()
    transformers_logging.enable_propagation()
    files = ModelFiles.find(settings.model)
    # The quick checks come first.
    files.check()
    revision = files.revision(settings.quant)
    resolver = Resolver.from_files(files, revision, settings.max_model_len)
    is_gpu = device.torch_name != "cpu"
    config = EngineConfig(
        model=str(files.path),
        device=device.torch_name,
        dtype=settings.dtype,
        quant=settings.quant,
        native=settings.native,
        speculation=settings.speculation,
        max_slots=settings.slots,
        max_model_len=settings.max_model_len,
        max_kv_tokens=settings.max_kv_tokens,
        memory_share=settings.memory_share,
        prefill_chunk=_GPU_PREFILL_CHUNK if is_gpu else _PREFILL_CHUNK,
        max_step_tokens=max(_GPU_STEP_TOKENS if is_gpu else _STEP_TOKENS, settings.slots),
        threads=settings.threads,
    )
    logger.info("loading %s for %s", settings.model, device.name)
    with _out_of_memory_as_error(settings.model, device):
        loaded = load_model(config, _Progress(), files)
        engine = make_engine(loaded, config)
    if engine.max_model_len < loaded.max_model_len:
        resolver = Resolver.from_files(files, revision, engine.max_model_len)
    logger.info("loaded: %s", _described(loaded))
    return LocalBackend(
        engine,
        resolver.resolve,
        model_revision=loaded.revision,
        is_exact=loaded.is_exact,
        fingerprint=loaded.fingerprint,
        answer=resolver.answer,
        max_model_len=min(engine.max_model_len, loaded.max_model_len),
    )


class _Progress:
    """Logs the progress of a load, each step once."""

    def __init__(self) -> None:
        self._logged = 0

    def __call__(self, done: int, total: int) -> None:
        percent = 100 * done // max(total, 1)
        if percent >= self._logged + _PROGRESS_STEP:
            self._logged = percent - percent % _PROGRESS_STEP
            logger.info("loading model %d %%", self._logged)


@contextmanager
def _out_of_memory_as_error(model: str, device: Device) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"{model} does not fit into the memory of {device.name}") from error


def _described(loaded: LoadedModel) -> str:
    found = loaded.fingerprint
    form = found.dtype if found.quant == "none" else f"{found.dtype}, {found.quant}"
    exactness = "exactly" if loaded.is_exact else "validly, but not always exactly"
    return f"{form}; interrupted answers are continued {exactness}"
