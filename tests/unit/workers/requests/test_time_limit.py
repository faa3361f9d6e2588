"""workers.requests.time_limit."""

from __future__ import annotations

import signal
import threading

import pytest

from workers.requests.time_limit import time_limit


def test_code_that_does_not_end_is_ended() -> None:
    handler = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TimeoutError), time_limit(0.05):
        while True:
            pass
    assert signal.getsignal(signal.SIGALRM) == handler


def test_another_thread_has_no_limit() -> None:
    done = threading.Event()

    def work() -> None:
        with time_limit(1e-6):
            done.set()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done.is_set()
