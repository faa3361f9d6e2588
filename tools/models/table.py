"""`make models`: tries each decoder-only architecture of transformers, and writes the table in docs/models.md.

For each type of MODEL_FOR_CAUSAL_LM_MAPPING a tiny random model is built (`tiny`), prepared like a real one, and
compared with `generate` (`trial`). It runs right, or it is refused by name at load. Everything else is a fault, and the
command ends with status 1.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from tools.models.tiny import NotBuilt, tiny_model
from tools.models.trial import expect, find_difference
from workers.engine.attention.slots import UnsupportedModel
from workers.engine.loading.loader import prepare_model
from workers.engine.loading.model_files import check_architecture

PAGE = Path(__file__).parents[2] / "docs/models.md"
_BEGIN, _END = "<!-- begin: make models -->", "<!-- end: make models -->"
#: The usual reasons of refusals, as a reader understands them. Matched in this order.
_REASONS = {
    "has layers that Baton does not run": "has state-space, convolution, linear or sparse attention layers",
    "keeps a state besides": "keeps a state besides keys and values",
    "matC_old": "keeps a state besides keys and values",
    "caches latent keys": "caches latent keys and values (multi-head latent attention)",
    "no attribute 'weight'": "reads the weights of a linear layer, which Baton has packed",
    "object has no attribute": "computes attention itself, not through transformers' interface",
    "must be Tensor": "computes attention itself, not through transformers' interface",
    "does not use transformers' AttentionInterface": "computes attention itself, not through transformers' interface",
    "computes other logits": "takes positions or masks from something other than `position_ids`",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one architecture."""

    model_type: str
    kind: Literal["runs", "refused", "fault"]
    #: Of one that runs: whether it is bit-identical in any batch. Otherwise why it does not run.
    is_exact: bool = False
    reason: str = ""


def model_types() -> list[str]:
    return list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def judge(model_type: str) -> Verdict:
    """Try one architecture."""
    try:
        check_architecture(_named(model_type))
        check_architecture(CONFIG_MAPPING[model_type]())
        model = tiny_model(model_type)
        determinism = prepare_model(model)
    except UnsupportedModel as error:
        return Verdict(model_type, "refused", reason=str(error))
    except ImportError as error:
        # `load_model` refuses such a model with these words.
        reason = " ".join(str(error).split()).partition(". ")[0]
        return Verdict(model_type, "refused", reason=f"{model_type}: {reason}")
    except NotBuilt as error:
        return Verdict(model_type, "fault", reason=str(error))
    difference = find_difference(model, expect(tiny_model(model_type)))
    if difference is not None:
        return Verdict(model_type, "fault", reason=f"other tokens than `generate`: {difference}")
    return Verdict(model_type, "runs", determinism.is_exact)


def _named(model_type: str) -> PreTrainedConfig:
    """A config of which only the type is known. The defaults of some types are no valid config."""
    config = PreTrainedConfig()
    config.model_type = model_type
    return config


def render(verdicts: Iterable[Verdict], version: str) -> str:
    """The table in Markdown."""
    known = list(verdicts)
    exact = [one.model_type for one in known if one.kind == "runs" and one.is_exact]
    others = [one.model_type for one in known if one.kind == "runs" and not one.is_exact]
    lines = [
        f"{len(exact) + len(others)} of the {len(known)} types in transformers {version} run:",
        "",
        "| type | bit-identical in any batch |",
        "|---|---|",
        f"| {_listed(exact)} | yes |",
        f"| {_listed(others)} | no: mixtures of experts and a few others |",
        "",
        "The others are refused:",
        "",
        "| type | reason |",
        "|---|---|",
    ]
    refused: dict[str, list[str]] = {}
    for one in known:
        if one.kind == "refused":
            refused.setdefault(_plain(one), []).append(one.model_type)
    lines += [f"| {_listed(types)} | {reason} |" for reason, types in refused.items()]
    return "\n".join(lines)


def write(page: Path, table: str) -> None:
    """Replace the table in a page."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(_BEGIN)
    _, after = rest.split(_END)
    page.write_text(f"{before}{_BEGIN}\n{table}\n{_END}{after}", encoding="utf-8")


def _listed(types: list[str]) -> str:
    return ", ".join(f"`{one}`" for one in types)


def _plain(verdict: Verdict) -> str:
    for sign, reason in _REASONS.items():
        if sign in verdict.reason:
            return reason
    return re.sub(rf"^{verdict.model_type}:? ", "", verdict.reason).replace("|", "\\|")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*", help="model types (default: all, and the page is written)")
    chosen = parser.parse_args(argv).types
    warnings.filterwarnings("ignore")
    transformers_logging.set_verbosity_error()
    torch.set_num_threads(1)
    verdicts = []
    for model_type in chosen or model_types():
        verdicts.append(judge(model_type))
        one = verdicts[-1]
        sys.stdout.write(f"{one.model_type:28} {one.kind:8} {one.reason or f'exact: {one.is_exact}'}\n")
        sys.stdout.flush()
    if not chosen:
        import transformers

        write(PAGE, render(verdicts, transformers.__version__))
    return int(any(one.kind == "fault" for one in verdicts))


if __name__ == "__main__":
    sys.exit(main())
