"""ModelRunner: one forward of the model for all rows of a step."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from workers.engine.attention import UnsupportedModel
from workers.engine.batch import Batch, make_batch
from workers.engine.kv_cache import SlotCache, SlotLayer
from workers.engine.scheduler import Plan


class ModelRunner:
    """Owns the cache. The model is one that `loader.load` prepared."""

    def __init__(self, model: PreTrainedModel, *, max_slots: int, max_len: int) -> None:
        self._model = model
        self._device = model.device
        self._cache = SlotCache(max_slots=max_slots, max_len=max_len)

    @property
    def vocab_size(self) -> int:
        """Each token id below this has an embedding and a logit."""
        embedding, head = self._model.get_input_embeddings(), self._model.get_output_embeddings()
        return min(int(embedding.num_embeddings), int(head.out_features))

    @property
    def slot_layers(self) -> list[SlotLayer]:
        return self._cache.slot_layers

    def run(self, plan: Plan) -> torch.Tensor:
        """Computes a plan that has rows; float32 logits [drawing rows, vocabulary] in the plan's order."""
        return self.compute(make_batch(plan, self._device))

    @torch.inference_mode()
    def compute(self, batch: Batch) -> torch.Tensor:
        """Computes a step; float32 logits of the tokens that it wants, in its order."""
        self._cache.begin(batch)
        output = self._model(
            input_ids=batch.input_ids,
            position_ids=batch.positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=batch.logit_indices,
        )
        logits: torch.Tensor = output.logits[0].float()
        return logits

    def check_attended(self) -> None:
        """Every layer that was written must have been read. Raises UnsupportedModel."""
        layers = self._cache.slot_layers
        if not layers or any(layer.num_reads != layer.num_writes for layer in layers):
            raise UnsupportedModel(f"{type(self._model).__name__} does not attend through the interface")
