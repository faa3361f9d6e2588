"""Builds an engine for a loaded model."""

from __future__ import annotations

import logging

from workers.engine.cache.slot_cache import KVSpan
from workers.engine.config import EngineConfig
from workers.engine.constraints.grammar_cache import GrammarCache
from workers.engine.constraints.vocabulary import Vocabulary
from workers.engine.engine import Engine
from workers.engine.loading.free_memory import OutOfMemory, kv_tokens
from workers.engine.loading.kernels import uses_operations
from workers.engine.loading.loader import LoadedModel
from workers.engine.model.kv_form import form_for, make_budget
from workers.engine.model.runner import ModelRunner
from workers.engine.model.sequence_rotary import rotary_rule
from workers.engine.sampling.native_draw import draw_natively
from workers.engine.sampling.sampler import Sampler
from workers.engine.scheduling.drafter import Drafter
from workers.engine.scheduling.kv_budget import KVBudget
from workers.engine.scheduling.prefix_cache import PrefixCache
from workers.engine.scheduling.scheduler import Scheduler
from workers.engine.text.detokenizer import check_tokenizer
from workers.engine.text.output_builder import OutputBuilder
from workers.engine.token_bytes import TokenBytes

log = logging.getLogger(__name__)

#: The prefix cache holds up to 1/4 of the tokens that the slots may hold.
_PREFIX_DIVISOR = 4
#: A layer of width h needs about 12 h² multiplications per token, and 2 h per key it attends to. The latter
#: are three times as slow on a CPU, and twice as slow on a GPU.
_SPAN_PER_WIDTH = {"slots": 2, "pages": 3}


def make_engine(loaded: LoadedModel, config: EngineConfig) -> Engine:
    """Build an engine for a model that `loader.load_model` loaded with the same config.

    Raises: OutOfMemory if no sequence fits into memory, UnsupportedTokenizer.
    """
    tokenizer = loaded.tokenizer.backend_tokenizer
    token_bytes = TokenBytes(tokenizer)
    check_tokenizer(token_bytes)
    budget = _kv_budget(loaded, config)
    prefixes = PrefixCache[KVSpan]((budget.max_tokens or 0) // _PREFIX_DIVISOR)
    runner = ModelRunner(loaded.model, budget, prefixes)
    runner.record_decoding(config.max_slots)
    return Engine(
        runner,
        Scheduler(
            max_slots=config.max_slots,
            prefill_chunk=config.prefill_chunk,
            max_step_tokens=config.max_step_tokens,
            kv_budget=budget,
            prefixes=prefixes,
            attention_span=_attention_span(loaded),
            rotary=rotary_rule(loaded.model),
        ),
        _sampler(loaded, config),
        lambda request, choice: OutputBuilder(token_bytes, request, choice),
        budget,
        prefixes,
        GrammarCache(lambda: Vocabulary.of(tokenizer, runner.vocab_size)),
        Drafter if config.speculation == "auto" and loaded.is_exact else None,
    )


def _attention_span(loaded: LoadedModel) -> int:
    width: int = loaded.model.config.get_text_config().hidden_size
    return width * _SPAN_PER_WIDTH[form_for(loaded.model.device)]


def _sampler(loaded: LoadedModel, config: EngineConfig) -> Sampler:
    is_native = uses_operations(config.native, loaded.model.device, loaded.model.dtype)
    return Sampler(draw_natively) if is_native else Sampler()


def _kv_budget(loaded: LoadedModel, config: EngineConfig) -> KVBudget:
    """The configured budget, or one derived from the free memory. Raises: OutOfMemory."""
    model, longest = loaded.model, loaded.max_model_len
    token_bytes = ModelRunner(model, make_budget(model, 1)).measure_token()
    budget = make_budget(model, longest, config.max_kv_tokens or kv_tokens(token_bytes, config.memory_share))
    if budget.longest == 0:
        raise OutOfMemory(
            f"not enough memory: the key-value cache would hold only {budget.max_tokens} tokens"
        )
    if budget.longest < longest:
        log.warning("limiting sequences to %d tokens: not enough memory for %d", budget.longest, longest)
    return budget
