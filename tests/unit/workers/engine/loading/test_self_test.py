from __future__ import annotations

from typing import Any

import pytest

from tests.models import UNSUPPORTED, tiny_model
from workers.engine.attention import slots as attention
from workers.engine.attention.slots import UnsupportedModel, slot_attention
from workers.engine.loading.loader import prepare_model


@pytest.mark.parametrize("model_type", UNSUPPORTED)
def test_architecture_that_bypasses_the_interface_is_refused_by_name(model_type: str) -> None:
    with pytest.raises(UnsupportedModel, match=r"(?i)" + model_type[:3]):
        prepare_model(tiny_model(model_type))


def test_a_model_with_other_logits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_window(*args: Any, sliding_window: int | None, **kwargs: Any) -> Any:
        assert sliding_window == 7
        return slot_attention(*args, **kwargs)

    monkeypatch.setattr(attention, "slot_attention", without_window)
    with pytest.raises(UnsupportedModel, match="computes other logits"):
        prepare_model(tiny_model("mistral"), native="off")
