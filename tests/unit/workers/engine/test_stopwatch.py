from __future__ import annotations

from workers.engine.stopwatch import Stopwatch


def test_each_lap_belongs_to_its_phase() -> None:
    watch = Stopwatch()
    for _ in range(3):
        watch.start()
        watch.lap("schedule")
        watch.lap("run")
    counts = {phase: sum(reading.counts) for phase, reading in watch.readings.items()}
    assert counts == {"schedule": 3, "run": 3, "sample": 0, "postprocess": 0}
    assert all(reading.sum >= 0 for reading in watch.readings.values())
