"""IsolatingSampler: draws the tokens of a step so that an error in one row fails only that row."""

from __future__ import annotations

import torch
from torch import Tensor

from workers.engine.sampling.numerics import NumericalError
from workers.engine.sampling.row import SampleRow
from workers.engine.sampling.sampler import Drawn, Sampler
from workers.engine.scheduling.plan import Draw
from workers.engine.scheduling.sequence import Sequence


class IsolatingSampler:
    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def draw(self, logits: Tensor, draws: list[Draw]) -> list[Drawn | Exception]:
        """Return the drawn token of each of `draws`. A row that fails alone yields its exception.

        Raises the original exception if it cannot be attributed to single rows.
        """
        rows = [_sample_row(draw.sequence) for draw in draws]
        if len(draws) < len(logits):
            indices = torch.tensor([draw.index for draw in draws], device=logits.device)
            logits = logits.index_select(0, indices)
        try:
            return [*self._sampler.sample(logits, rows)]
        except MemoryError:
            raise
        except Exception:
            drawn = [self._draw_alone(logits[i : i + 1], row) for i, row in enumerate(rows)]
            num_failed = sum(
                isinstance(one, Exception) and not isinstance(one, NumericalError) for one in drawn
            )
            if num_failed == 0 or num_failed == len(rows) > 1:
                raise
            return drawn

    def _draw_alone(self, logits: Tensor, row: SampleRow) -> Drawn | Exception:
        try:
            return self._sampler.sample(logits, [row])[0]
        except MemoryError:
            raise
        except Exception as error:
            return error


def _sample_row(sequence: Sequence) -> SampleRow:
    return SampleRow(
        sequence.sampling, sequence.choice, sequence.position, sequence.adjustments, sequence.matcher
    )
