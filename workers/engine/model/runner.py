"""ModelRunner: one forward of the model for all rows of a step."""

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
from workers.engine.cache.select import make_cache
from workers.engine.cache.slot_cache import KVSpan
from workers.engine.model.cuda_graphs import CudaGraphs, CudaRecorder, Recorder
from workers.engine.scheduling.kv_budget import KVBudget
from workers.engine.scheduling.plan import Plan, Row
from workers.engine.scheduling.prefix_cache import SPAN, PrefixCache
from workers.engine.scheduling.sequence import Sequence

log = logging.getLogger(__name__)


class ModelRunner:
    """Owns the cache. The model is one that `loader.load` prepared."""

    def __init__(
        self, model: PreTrainedModel, kv_budget: KVBudget, prefixes: PrefixCache[KVSpan] | None = None
    ) -> None:
        self._model = model
        self._device = model.device
        self._cache = make_cache(model, kv_budget)
        self._prefixes = prefixes
        self._graphs: CudaGraphs | None = None

    @property
    def vocab_size(self) -> int:
        """Each token id below this has an embedding and a logit."""
        embedding, head = self._model.get_input_embeddings(), self._model.get_output_embeddings()
        return min(int(embedding.num_embeddings), int(head.out_features))

    @property
    def kv_tokens(self) -> int:
        """Tokens that the cache has memory allocated for."""
        return self._cache.num_tokens

    @torch.inference_mode()
    def run(self, plan: Plan) -> torch.Tensor:
        """Computes a plan that has rows; logits [wanted, vocabulary] in its order, of the model's dtype."""
        batch = self._cache.begin(plan, self._device)
        for sequence in plan.admitted:
            self._copy_prefix(sequence)
        if self._graphs is not None and isinstance(batch, PagedBatch):
            return self._graphs.run(batch)
        return self._compute(batch)

    def _compute(self, batch: Batch | PagedBatch) -> torch.Tensor:
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
        """Records steps in which up to so many rows decode, where that can be done: on one CUDA device, with
        the kernel that torch ships, and a budget that bounds the cache. Answers whether it was.

        `record`: in place of CUDA's graphs.
        """
        cache = self._cache
        if not isinstance(cache, PagedCache) or not cache.is_bounded:
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
            log.warning("%s decodes without CUDA graphs: it cannot be recorded: %s", name, error)
            return False
        self._graphs = graphs
        return True

    def _compute_on(self, cache: PagedCache, batch: PagedBatch) -> torch.Tensor:
        cache.use(batch)
        return self._compute(batch)

    @torch.inference_mode()
    def copy_out(self, slot: int, start: int, end: int) -> KVSpan:
        """What a slot holds from one token to another."""
        return self._cache.copy_out(slot, start, end)

    @torch.inference_mode()
    def copy_in(self, slot: int, start: int, span: KVSpan) -> None:
        """Puts a span into a slot that has been computed in."""
        self._cache.copy_in(slot, start, span)

    @torch.inference_mode()
    def keep(self, sequence: Sequence) -> None:
        """Keeps what is computed of a running sequence for those that begin alike."""
        slot = sequence.slot
        if self._prefixes is not None and slot is not None:
            self._prefixes.keep(sequence, lambda start, end: self._cache.copy_out(slot, start, end))

    def _copy_prefix(self, sequence: Sequence) -> None:
        if self._prefixes is not None and sequence.num_computed and sequence.slot is not None:
            for index, span in enumerate(self._prefixes.spans(sequence)):
                self._cache.copy_in(sequence.slot, index * SPAN, span)

    def check_attended(self) -> None:
        """Every layer that was written must have been read. Raises UnsupportedModel."""
        layers = self._cache.layer_caches
        if not layers or any(layer.num_reads != layer.num_writes for layer in layers):
            raise UnsupportedModel(f"{type(self._model).__name__} does not attend through the interface")

    def measure_token(self) -> Mapping[torch.device, int]:
        """Bytes of one token's keys and values in all layers, by device: computes one, as a slot's first."""
        sequence = Sequence("measure", 0, SamplingParams(max_tokens=1, seed=0), [0], num_prompt_tokens=1)
        self.run(Plan((Row(sequence, slot=0, start=0, count=1),)))
        found: Counter[torch.device] = Counter()
        for layer in self._cache.layer_caches:
            found[layer.device] += layer.token_bytes
        return found
