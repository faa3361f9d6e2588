from __future__ import annotations

import random
from pathlib import Path

import pytest

from tools.models import table
from tools.models.table import PAGE, Verdict, judge, model_types, render, write
from tools.models.tiny import tiny_model
from tools.models.trial import expect, find_difference
from workers.engine.loading.loader import prepare_model

#: Seeded, so that a failure can be repeated.
SAMPLE = random.Random(20).sample(model_types(), 14)


@pytest.mark.parametrize("model_type", SAMPLE)
def test_an_architecture_runs_right_or_is_refused_by_name(model_type: str) -> None:
    verdict = judge(model_type)
    assert verdict.kind != "fault", verdict
    name = model_type.replace("_", "").replace("-", "")[:4]
    assert verdict.kind == "runs" or name in verdict.reason.lower().replace("_", "").replace("-", "")


def test_the_page_lists_every_type_once() -> None:
    page = PAGE.read_text()
    for model_type in model_types():
        assert page.count(f"`{model_type}`,") + page.count(f"`{model_type}` |") == 1, model_type


@pytest.mark.parametrize("model_type", SAMPLE[:3])
def test_the_page_agrees_with_the_code(model_type: str) -> None:
    running, refused = PAGE.read_text().split("The others are refused:")
    listed = running if judge(model_type).kind == "runs" else refused
    assert f"`{model_type}`" in listed


def test_a_wrong_model_is_found() -> None:
    model = tiny_model("llama")
    prepare_model(model)
    assert find_difference(model, expect(tiny_model("llama"))) is None
    assert find_difference(model, expect(tiny_model("llama", seed=1))) == "alone, a prompt of 3 tokens"


def test_a_fault_ends_the_command_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"llama": Verdict("llama", "runs", True), "mamba": Verdict("mamba", "fault", reason="?")}
    monkeypatch.setattr(table, "judge", found.__getitem__)
    assert table.main(["llama"]) == 0
    assert table.main(["llama", "mamba"]) == 1


def test_the_table_replaces_the_former_one(tmp_path: Path) -> None:
    page = tmp_path / "models.md"
    page.write_text("before\n<!-- begin: make models -->\nold\n<!-- end: make models -->\nafter\n")
    verdicts = [
        Verdict("llama", "runs", True),
        Verdict("mixtral", "runs"),
        Verdict("mamba", "refused", reason="mamba has layers that Baton does not run: linear_attention"),
        Verdict("moshi", "refused", reason="moshi generates speech"),
    ]
    write(page, render(verdicts, "5.0"))
    write(page, render(verdicts, "5.0"))
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "2 of the 4 types in transformers 5.0 run" in text
    assert "| `mamba` | has state-space, convolution, linear or sparse attention layers |" in text
    assert "| `moshi` | generates speech |" in text
