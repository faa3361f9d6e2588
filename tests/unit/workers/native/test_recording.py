from __future__ import annotations

import pytest
import torch

from workers.native.ops import SiluGate, native_library, new_recording

pytestmark = pytest.mark.skipif(native_library() is None, reason="no C compiler here")


def test_a_recording_runs_later_with_the_current_contents() -> None:
    gate, recording = SiluGate(16, torch.float32), new_recording()
    gated, product, twice = torch.ones(3, 32), torch.zeros(3, 16), torch.zeros(3, 16)
    with recording.record():
        gate(gated, product)
        gate(gated[:1], twice[:1])
    assert not product.any()
    recording.run()
    expected = torch.nn.functional.silu(torch.ones(3, 16))
    torch.testing.assert_close(product, expected)
    torch.testing.assert_close(twice, expected * torch.tensor([[1.0], [0.0], [0.0]]))
    gated.fill_(0)
    recording.run()
    assert not product.any()


def test_an_operation_outside_is_not_recorded() -> None:
    gate, recording = SiluGate(16, torch.float32), new_recording()
    with pytest.raises(ZeroDivisionError), recording.record():
        raise ZeroDivisionError
    gated, product = torch.ones(1, 32), torch.zeros(1, 16)
    gate(gated, product)
    assert product.all()
    product.zero_()
    recording.run()
    assert not product.any()
