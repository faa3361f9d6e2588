"""ModelRunner: one forward of the model for all rows of a step."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from shared.sampling import SamplingParams
from workers.engine.attention import UnsupportedModel
from workers.engine.kv_budget import KVBudget
from workers.engine.kv_cache import KVSpan, LayerCache, SlotCache
from workers.engine.prefix_cache import SPAN, PrefixCache
from workers.engine.scheduler import Plan, Row
from workers.engine.sequence import Sequence


class ModelRunner:
    """Owns the cache. The model is one that `loader.load` prepared."""

    def __init__(
        self, model: PreTrainedModel, kv_budget: KVBudget, prefixes: PrefixCache[KVSpan] | None = None
    ) -> None:
        self._model = model
        self._device = model.device
        self._cache = SlotCache(kv_budget)
        self._prefixes = prefixes

    @property
    def vocab_size(self) -> int:
        """Each token id below this has an embedding and a logit."""
        embedding, head = self._model.get_input_embeddings(), self._model.get_output_embeddings()
        return min(int(embedding.num_embeddings), int(head.out_features))

    @property
    def layer_caches(self) -> list[LayerCache]:
        return self._cache.layer_caches

    @property
    def kv_tokens(self) -> int:
        """Tokens that the cache has memory allocated for."""
        return self._cache.num_tokens

    @torch.inference_mode()
    def run(self, plan: Plan) -> torch.Tensor:
        """Computes a plan that has rows; float32 logits [wanted, vocabulary] in the plan's order."""
        batch = self._cache.begin(plan, self._device)
        for sequence in plan.admitted:
            self._copy_prefix(sequence)
        output = self._model(
            input_ids=batch.input_ids,
            position_ids=batch.positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=batch.logit_indices,
        )
        logits: torch.Tensor = output.logits[0].float()
        return logits

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

    def measure_token(self) -> int:
        """Bytes of one token's keys and values in all layers: computes one, as the first of a slot."""
        sequence = Sequence("measure", 0, SamplingParams(max_tokens=1, seed=0), [0], num_prompt_tokens=1)
        self.run(Plan((Row(sequence, slot=0, start=0, count=1),)))
        return self._cache.token_bytes
