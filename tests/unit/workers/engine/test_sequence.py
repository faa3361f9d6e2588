from __future__ import annotations

from shared.sampling import SamplingParams
from workers.engine.sequence import Sequence


def test_resumed_sequence_reads_what_was_released_and_draws_the_next_position() -> None:
    sequence = Sequence("r", 0, SamplingParams(max_tokens=9, seed=0), [5, 6, 7, 8, 9], num_prompt_tokens=3)
    assert (sequence.num_tokens, sequence.num_uncomputed, sequence.position) == (5, 5, 2)
    assert sequence.max_len == 12
