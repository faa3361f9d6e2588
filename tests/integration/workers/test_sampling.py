"""Every sampling parameter, from a request's body to its tokens: wherever another worker goes on, it goes on
with the same ones."""

from __future__ import annotations

from typing import Any

import pytest

from tests.features import NAMES, PLAIN, features
from tests.integration.workers.lone_worker import LoneWorker
from tests.tiny_chat_model import make_tiny_chat_model


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> LoneWorker:
    return LoneWorker.start(make_tiny_chat_model(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="module")
def asked(worker: LoneWorker) -> dict[str, dict[str, Any]]:
    """The body of each feature."""
    worker.add("plain", worker.resolve(PLAIN))
    worker.run()
    # Not with the others, which are streamed as well.
    added = {"prompt_logprobs": {**PLAIN, "prompt_logprobs": 2, "n": 2, "stop": ["\x7f"]}}
    return features(worker.answer("plain", 1)[0].text) | added


@pytest.mark.parametrize("name", [*NAMES, "prompt_logprobs"])
def test_an_answer_is_the_same_wherever_another_worker_goes_on(
    worker: LoneWorker, asked: dict[str, dict[str, Any]], name: str
) -> None:
    request = worker.resolve(asked[name])
    worker.add("whole", request)
    worker.run()
    whole, released = worker.answer("whole", request.num_choices), list(worker.released["whole"])
    assert all(choice.finish is not None for choice in whole)
    # Each continuation has those at other cuts for neighbours.
    cuts = [str(cut) for cut in range(len(released) + 1)]
    for cut in cuts:
        worker.add(cut, request, released[: int(cut)])
    worker.run()
    for cut in cuts:
        assert worker.answer(cut, request.num_choices) == whole, cut
