from __future__ import annotations

from shared.domain.histogram import Histogram, HistogramReading


def test_a_value_falls_into_the_first_bucket_that_holds_it() -> None:
    histogram = Histogram((1, 2, 5))
    for value in (0.5, 1, 1.5, 5, 7):
        histogram.observe(value)
    assert histogram.read() == HistogramReading((2, 1, 1, 1), 15)


def test_frequencies_are_a_histogram() -> None:
    assert HistogramReading.of((1, 4), {1: 3, 2: 5, 9: 1}) == HistogramReading((3, 5, 1), 22)
