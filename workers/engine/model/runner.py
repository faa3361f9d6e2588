"""ModelRunner: one forward pass of the model for all rows of a step."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping

import torch
from transformers import PreTrainedModel

from shared.domain.sampling import SamplingParams
from workers.engine.attention.slots import UnsupportedModel
from workers.engine.batching.batch import Batch
from workers.engine.batching.paged_batch import PagedBatch, idle_batch
from workers.engine.cache.paged_cache import PagedCache
from workers.engine.cache.slot_cache import KVSpan
from workers.engine.model.cuda_graphs import CudaGraphs, CudaRecorder, Recorder
from workers.engine.model.kv_form import make_cache
from workers.engine.model.sequence_rotary import rotary_modules
from workers.engine.scheduling.kv_budget import KVBudget
from workers.engine.scheduling.plan import Plan, Row
from workers.engine.scheduling.prefix_cache import SPAN, PrefixCache
from workers.engine.scheduling.sequence import Sequence

log = logging.getLogger(__name__)


class ModelRunner:
    """Owns the key-value cache. The model must have been prepared by `loader.load_model`."""

    def __init__(
        self, model: PreTrainedModel, kv_budget: KVBudget, prefixes: PrefixCache[KVSpan] | None = None
    ) -> None:
        self._model = model
        self._device = model.device
        self._cache = make_cache(model, kv_budget)
        self._prefixes = prefixes
        self._graphs: CudaGraphs | None = None
        self._rotary_modules = rotary_modules(model)

    @property
    def vocab_size(self) -> int:
        """Every token id below this has an embedding and a logit."""
        embedding, head = self._model.get_input_embeddings(), self._model.get_output_embeddings()
        return min(int(embedding.num_embeddings), int(head.out_features))

    @property
    def kv_tokens(self) -> int:
        """Tokens for which the cache has allocated memory."""
        return self._cache.num_tokens

    @torch.inference_mode()
    def run(self, plan: Plan) -> torch.Tensor:
        """Compute a plan that has at least one row.

        Returns the requested logits, [requested, vocabulary], in the plan's order and the model's dtype.
        """
        batch = self._cache.begin(plan, self._device)
        for sequence in plan.admitted:
            self._copy_prefix(sequence)
        if self._graphs is not None and isinstance(batch, PagedBatch):
            return self._graphs.run(batch)
        return self._compute(batch)

    def _compute(self, batch: Batch | PagedBatch) -> torch.Tensor:
        for module in self._rotary_modules:
            module.lengths = batch.rotary_lengths
        output = self._model(
            input_ids=batch.input_ids,
            position_ids=batch.positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=batch.logit_indices,
        )
        logits: torch.Tensor = output.logits[0]
        return logits

    @torch.inference_mode()
    def record_decoding(self, max_rows: int, record: Recorder | None = None) -> bool:
        """Capture CUDA graphs for decode steps of up to `max_rows` rows. Returns whether it did.

        This requires one CUDA device, torch's FlashAttention kernel, a budget that bounds the cache, and rotary
        frequencies that need not be read back from the device.
        `record` replaces the CUDA graph recorder.
        """
        cache = self._cache
        reads_lengths = any(module.is_dynamic for module in self._rotary_modules)
        if not isinstance(cache, PagedCache) or not cache.is_bounded or reads_lengths:
            return False
        self._compute_on(cache, idle_batch(1, cache.max_len, self._device))
        if record is None and not all(x.is_flash and x.device == self._device for x in cache.layer_caches):
            return False
        graphs = CudaGraphs(
            lambda batch: self._compute_on(cache, batch),
            record or CudaRecorder(),
            max_keys=cache.max_len,
            device=self._device,
        )
        try:
            graphs.record(max_rows)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            name = type(self._model).__name__
            log.warning("%s decodes without CUDA graphs, since capturing failed: %s", name, error)
            return False
        self._graphs = graphs
        return True

    def _compute_on(self, cache: PagedCache, batch: PagedBatch) -> torch.Tensor:
        cache.use(batch)
        return self._compute(batch)

    @torch.inference_mode()
    def copy_out(self, slot: int, start: int, end: int) -> KVSpan:
        """Copy the keys and values of tokens `start` to `end` out of a slot."""
        return self._cache.copy_out(slot, start, end)

    @torch.inference_mode()
    def copy_in(self, slot: int, start: int, span: KVSpan) -> None:
        """Copy a span into a slot. The slot must have been computed in before."""
        self._cache.copy_in(slot, start, span)

    @torch.inference_mode()
    def keep(self, sequence: Sequence) -> None:
        """Store a running sequence's computed keys and values in the prefix cache."""
        slot = sequence.slot
        if self._prefixes is not None and slot is not None:
            self._prefixes.keep(sequence, lambda start, end: self._cache.copy_out(slot, start, end))

    def _copy_prefix(self, sequence: Sequence) -> None:
        if self._prefixes is not None and sequence.num_computed and sequence.slot is not None:
            for index, span in enumerate(self._prefixes.spans(sequence)):
                self._cache.copy_in(sequence.slot, index * SPAN, span)

    def check_attended(self) -> None:
        """Check that every layer that was written was also read. Raises: UnsupportedModel."""
        layers = self._cache.layer_caches
        if not layers or any(layer.num_reads != layer.num_writes for layer in layers):
            raise UnsupportedModel(
                f"{type(self._model).__name__} does not use transformers' AttentionInterface"
            )

    def measure_token(self) -> Mapping[torch.device, int]:
        """Return the bytes of one token's keys and values in all layers, by device. Computes a token to find
        out."""
        sequence = Sequence("measure", 0, SamplingParams(max_tokens=1, seed=0), [0], num_prompt_tokens=1)
        self.run(Plan((Row(sequence, slot=0, start=0, count=1),)))
        found: Counter[torch.device] = Counter()
        for layer in self._cache.layer_caches:
            found[layer.device] += layer.token_bytes
        return found
