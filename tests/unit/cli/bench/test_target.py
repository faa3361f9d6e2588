"""The --target option, and which API key is sent to which server."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.bench.target import Target, find_targets
from cli.errors import CommandError
from cli.exit_codes import ExitCode

ENVIRON = {"BATON_API_KEYS": "ours,other", "OPENAI_API_KEY": "openai", "MY_VLLM_API_KEY": "vllm"}


def test_without_any_it_is_the_baton_of_this_home(tmp_path: Path) -> None:
    environ = {**ENVIRON, "BATON_HOME": str(tmp_path), "BATON_PORT": "8123"}
    assert find_targets([], "m", environ) == [Target("baton", "http://127.0.0.1:8123/v1", "ours", "m")]


@pytest.mark.parametrize(
    ("url", "base_url"),
    [
        ("http://x:1", "http://x:1/v1"),
        ("http://x:1/", "http://x:1/v1"),
        ("https://x/openai/v1/", "https://x/openai/v1"),
        ("https://x/v1beta/openai", "https://x/v1beta/openai"),
    ],
)
def test_a_url_is_taken_as_openai_s_clients_take_it(url: str, base_url: str) -> None:
    (target,) = find_targets([f"a={url}"], None, {})
    assert target == Target("a", base_url, None, None)


def test_each_target_has_its_key_and_model() -> None:
    given = ["my-vllm=http://x:1#own", "sglang=http://x:2"]
    assert find_targets(given, "common", ENVIRON) == [
        Target("my-vllm", "http://x:1/v1", "vllm", "own"),
        Target("sglang", "http://x:2/v1", "openai", "common"),
    ]
    assert find_targets(given, None, {})[0].headers == {}
    assert find_targets(["baton=http://x"], None, ENVIRON)[0].headers == {"authorization": "Bearer ours"}


@pytest.mark.parametrize(
    "given", [["http://x:1"], ["a=x:1"], ["a=ftp://x"], ["=http://x"], ["a=http://x", "a=http://y"]]
)
def test_what_is_no_target_is_refused(given: list[str]) -> None:
    with pytest.raises(CommandError) as refused:
        find_targets(given, None, {})
    assert refused.value.code == ExitCode.USAGE
