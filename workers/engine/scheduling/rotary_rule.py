"""RotaryRule: the length by which a sequence's rotary positions are scaled. Does not import torch.

Some rotary embeddings (longrope, dynamic NTK) have other frequencies beyond a border. transformers chooses them by
the largest position in a forward pass, which here holds many sequences. The engine chooses them for each token: the
token at position p is rotated as in a sequence of max(`Sequence.rotary_base`, p + 1) tokens.

The base makes this what `generate` computes for the sequence alone. Usually it is the length of the prompt: `generate`
computes the prompt in one pass, and each later token in a pass of its own. Phi-3 and its relatives compute the whole
sequence again when it grows over the border; their base is the number of tokens at the last (re)start. Both depend on
the sequence's own tokens only. Neighbours, chunks, preemption and resumption therefore change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from workers.engine.scheduling.sequence import Sequence


@dataclass(frozen=True, slots=True)
class RotaryRule:
    """How a model's rotary frequencies depend on the length of a sequence."""

    #: Up to this many tokens the length does not matter.
    border: int
    #: Whether a sequence that grows over the border is computed again from its start.
    recomputes: bool
    #: Whether each length beyond the border has its own frequencies. Otherwise they all have the same.
    is_graded: bool

    def start(self, sequence: Sequence) -> None:
        """Prepare a sequence that is computed from its start."""
        base = sequence.num_tokens if self.recomputes else sequence.num_prompt_tokens
        sequence.rotary_base = base
        if base <= self.border:
            sequence.prefix_salt = b""
        else:
            sequence.prefix_salt = f"rotary {base}".encode() if self.is_graded else b"rotary"

    def is_outgrown(self, sequence: Sequence) -> bool:
        """Whether the sequence must be computed again from its start before its next token."""
        return self.recomputes and sequence.rotary_base <= self.border < sequence.num_tokens

    def room(self, sequence: Sequence) -> int | None:
        """How many tokens may be computed beyond the sequence's own. None: any number."""
        if not self.recomputes or sequence.num_tokens > self.border:
            return None
        return self.border - sequence.num_tokens
