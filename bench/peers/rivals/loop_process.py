"""A minimal decoding loop: StaticCache, transformers' SDPA and argmax, without a server or scheduler.

Runs in its own process. Reads rounds as JSON lines from stdin and prints the time of each step.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, StaticCache


@torch.inference_mode()
def run(model: PreTrainedModel, prompts: list[list[int]], num_tokens: int) -> list[float]:
    """Decodes prompts of equal length. Returns the time of each step (time.perf_counter is shared by processes)."""
    length = len(prompts[0])
    cache = StaticCache(config=model.config, max_cache_len=length + num_tokens)
    tokens, positions, times = torch.tensor(prompts), torch.arange(length), []
    for _ in range(num_tokens):
        output = model(
            input_ids=tokens,
            past_key_values=cache,
            cache_position=positions,
            logits_to_keep=1,
        )
        # argmax on bfloat16 is several times slower.
        tokens = output.logits[:, -1].float().argmax(-1, keepdim=True)
        positions = positions[-1:] + 1
        times.append(time.perf_counter())
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = AutoModelForCausalLM.from_pretrained(
        options.model, dtype=torch.bfloat16, attn_implementation="sdpa"
    )
    model.eval()
    for line in sys.stdin:
        print(json.dumps(run(model, *json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
