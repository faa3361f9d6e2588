from __future__ import annotations

import pytest

from shared.host.device_name import parts_of, read_device


def test_gpus_of_one_model_are_joined() -> None:
    assert read_device("cuda:0 + cuda:3") == "cuda:0+cuda:3"
    assert parts_of("cuda:0+cuda:3") == ("cuda:0", "cuda:3")
    assert parts_of("cpu") == ("cpu",)


@pytest.mark.parametrize("text", ["gpu", "cuda", "cuda:x", "cpu+cuda:0", "auto+auto", "cuda:0+", "cpu+cpu"])
def test_what_is_no_device_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not auto, cpu, cuda:<n> or cuda:<n>"):
        read_device(text)


def test_a_gpu_is_named_only_once() -> None:
    with pytest.raises(ValueError, match="names a GPU twice"):
        read_device("cuda:1+cuda:1")
