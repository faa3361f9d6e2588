"""SelfTest: checks at every load that a prepared model still computes what it computed before."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from shared.domain.sampling import SamplingParams
from workers.engine.attention.slots import UnsupportedModel
from workers.engine.config import Quant
from workers.engine.model.kv_form import make_budget
from workers.engine.model.runner import ModelRunner
from workers.engine.scheduling.plan import Plan, Row
from workers.engine.scheduling.sequence import Sequence

#: Lengths of the sequences, long enough for the windows and chunks of tiny models to matter.
_LENGTHS = (21, 14)
#: Tokens at the end of each sequence that are decoded one by one.
_NUM_DECODED = 3
#: Maximum distance from the model's own logits, relative to their norm. Wrong attention is off by more than
#: half; 16-bit dtypes are off by a few hundredths.
_TOLERANCE = {torch.float32: 1e-3}
_TOLERANCE_16_BITS = 0.1
#: Quantization to 8 bits moves the logits of a small model by up to a tenth (SmolLM2-135M).
_TOLERANCE_INT8 = 0.2


#: Sequence, start and end of the tokens to compute.
_Span = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Reference:
    """Random sequences, and the untouched model's logits for them, computed without a cache."""

    model: PreTrainedModel
    token_ids: tuple[tuple[int, ...], ...]
    #: Per sequence, float32 [length, vocabulary].
    logits: tuple[torch.Tensor, ...]

    @classmethod
    @torch.inference_mode()
    def of(cls, model: PreTrainedModel) -> Reference:
        generator = torch.Generator().manual_seed(0)
        vocabulary = model.config.get_text_config().vocab_size
        token_ids = [torch.randint(vocabulary, (n,), generator=generator).tolist() for n in _LENGTHS]
        logits = [_forward(model, ids)[0].float() for ids in token_ids]
        return cls(model, tuple(map(tuple, token_ids)), tuple(logits))

    def probe(self) -> None:
        """Run one forward pass of the model as it is."""
        _forward(self.model, list(self.token_ids[0]))


def _forward(model: PreTrainedModel, token_ids: list[int]) -> torch.Tensor:
    logits: torch.Tensor = model(torch.tensor([token_ids], device=model.device), use_cache=False).logits
    return logits


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Runs the reference's sequences on the engine's cache, staggered in one batch."""

    reference: Reference
    quant: Quant = "none"

    def run(self) -> None:
        """Run the test. Raises: UnsupportedModel if the logits differ from the model's own."""
        name = type(self.reference.model).__name__
        if not all(bool(logits.isfinite().all()) for logits in self.reference.logits):
            raise UnsupportedModel(
                f"{name} computes logits that are NaN or infinite: its weights are damaged, or too large for "
                f"{self.reference.model.dtype}"
            )
        try:
            together = self._compute(self._staggered())
        except UnsupportedModel as error:
            raise UnsupportedModel(f"{name}: {error}") from error
        except LookupError as error:
            raise UnsupportedModel(
                f"{name} keeps a state besides keys and values, which Baton does not"
            ) from error
        except (AttributeError, TypeError, RuntimeError, ValueError, NotImplementedError) as error:
            raise UnsupportedModel(f"{name} fails with the engine's key-value cache: {error}") from error
        for (index, end), logits in together.items():
            if not self._is_close(self.reference.logits[index][end - 1], logits):
                cause = "key-value cache" + " or with int8 weights" * (self.quant == "int8")
                raise UnsupportedModel(f"{name} computes other logits with the engine's {cause}")

    def _staggered(self) -> list[list[_Span]]:
        """The steps: both sequences decode their last tokens, the second one step later."""
        first, second = (len(ids) - _NUM_DECODED for ids in self.reference.token_ids)
        steps: list[list[_Span]] = [[(0, 0, first)]]
        for step in range(_NUM_DECODED):
            steps.append([(0, first + step, first + step + 1)])
        for step in range(_NUM_DECODED):
            start = 0 if step == 0 else second + step - 1
            steps[1 + step].append((1, start, second + step))
        return steps

    def _compute(self, steps: list[list[_Span]]) -> dict[tuple[int, int], torch.Tensor]:
        """Logits at the end of each span, by sequence and end."""
        model = self.reference.model
        runner = ModelRunner(model, make_budget(model, max(_LENGTHS)))
        logits: dict[tuple[int, int], torch.Tensor] = {}
        for step in steps:
            spans = sorted(step, key=lambda span: span[2] - span[1] > 1)
            rows = runner.run(Plan(tuple(self._row(*span) for span in spans))).float()
            logits |= {(index, end): row for (index, _, end), row in zip(spans, rows, strict=True)}
        runner.check_attended()
        return logits

    def _row(self, index: int, start: int, end: int) -> Row:
        """A row that draws from its last token. Its sequence ends there."""
        token_ids = list(self.reference.token_ids[index][:end])
        sampling = SamplingParams(max_tokens=1, seed=0)
        sequence = Sequence("self-test", index, sampling, token_ids, num_prompt_tokens=end)
        # The reference was computed in one pass.
        sequence.rotary_base = len(self.reference.token_ids[index])
        return Row(sequence, slot=index, start=start, count=end - start)

    def _is_close(self, own: torch.Tensor, logits: torch.Tensor) -> bool:
        usual = _TOLERANCE.get(self.reference.model.dtype, _TOLERANCE_16_BITS)
        tolerance = _TOLERANCE_INT8 if self.quant == "int8" else usual
        return bool((own - logits).norm() <= tolerance * own.norm())
