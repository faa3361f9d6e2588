"""The program that LitServe runs in its own virtual environment, independent of Baton.

It batches streams as LitServe's documentation does: requests that arrive within 50 ms form one batch, padded on the
left. A later request waits until the batch has ended.
"""

from __future__ import annotations

import argparse
import queue
import threading
from collections.abc import Iterator
from typing import Any

import litserve
import torch
from tokenizers.decoders import DecodeStream
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.generation.streamers import BaseStreamer


class BatchStreamer(BaseStreamer):  # type: ignore[misc]  # transformers is untyped
    """Passes on the tokens of each step, one per row."""

    def __init__(self) -> None:
        self._steps: queue.SimpleQueue[list[int] | None] = queue.SimpleQueue()
        self._is_prompt = True

    def put(self, value: torch.Tensor) -> None:
        if self._is_prompt:
            self._is_prompt = False
        else:
            self._steps.put(value.tolist())

    def end(self) -> None:
        self._steps.put(None)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._steps.get, None)


class Chats(litserve.LitAPI):  # type: ignore[misc]
    def __init__(self, model: str, slots: int) -> None:
        super().__init__(spec=litserve.OpenAISpec(), max_batch_size=slots, batch_timeout=0.05)
        self._name = model

    def setup(self, device: str) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(self._name, padding_side="left")
        self._model = AutoModelForCausalLM.from_pretrained(self._name, dtype=torch.bfloat16).to(device).eval()

    def predict(self, requests: Any) -> Iterator[list[tuple[str, int, int]]]:
        """Yields for each step the text, prompt tokens and tokens so far of every row."""
        requests = requests if isinstance(requests, list) else [requests]
        chats = [[message.model_dump() for message in request.messages] for request in requests]
        inputs = self._tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        limits = [request.max_tokens or 128 for request in requests]
        streamer = BatchStreamer()
        options = {"max_new_tokens": max(limits), "do_sample": False, "streamer": streamer}
        threading.Thread(target=self._model.generate, kwargs={**inputs, **options}, daemon=True).start()
        lengths = inputs["attention_mask"].sum(-1).tolist()
        decoders = [DecodeStream(skip_special_tokens=True) for _ in requests]
        inner = self._tokenizer.backend_tokenizer
        for step, token_ids in enumerate(streamer, start=1):
            texts = [
                (decoder.step(inner, token_id) or "") if step <= limit else ""
                for decoder, token_id, limit in zip(decoders, token_ids, limits, strict=True)
            ]
            yield [
                (text, length, min(step, limit))
                for text, length, limit in zip(texts, lengths, limits, strict=True)
            ]

    def encode_response(self, output: Any) -> Iterator[list[dict[str, Any]]]:
        for step in output:
            yield [
                {
                    "role": "assistant",
                    "content": text,
                    "prompt_tokens": prompt_tokens,
                    "completion_tokens": tokens,
                    "total_tokens": prompt_tokens + tokens,
                }
                for text, prompt_tokens, tokens in step
            ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    server = litserve.LitServer(Chats(options.model, options.slots), accelerator="cpu", timeout=600)
    server.run(host="127.0.0.1", port=options.port, generate_client_file=False)


if __name__ == "__main__":
    main()
