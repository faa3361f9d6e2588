from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

from bench.features.speculation import compare, works
from tests.tiny_chat_model import make_tiny_chat_model
from workers.engine.build import make_engine
from workers.engine.config import EngineConfig, Speculation
from workers.engine.engine import Engine
from workers.engine.loading.loader import load_model


def test_each_kind_of_work_is_compared_and_answers_are_held_against_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = EngineConfig(str(make_tiny_chat_model(tmp_path / "tiny")), dtype="float32", threads=1)
    loaded = load_model(config)
    engines: dict[Speculation, Engine] = {
        "auto": make_engine(loaded, config),
        "off": make_engine(loaded, replace(config, speculation="off")),
    }
    options = Namespace(tokens=4, rounds=2, stop=loaded.tokenizer.eos_token_id)
    for work in works(loaded):
        compare(engines, replace(work, prompts=[prompt[-20:] for prompt in work.prompts]), 2, options)
    lines = capsys.readouterr().out.splitlines()
    heads = [line.split(":")[0].split() for line in lines]
    assert heads == [["2", "rows,", name] for name in ("repeating", "chat", "random")]
    assert all(line.endswith("16 tokens generated") for line in lines)
