from __future__ import annotations

from api.cursor import Cursor
from api.join import News
from api.stream_meter import StreamMeter, has_tokens
from shared.events import Started
from shared.histogram import Histogram, HistogramReading
from tests.unit.api.streams import JOB_ID, output


def test_the_first_output_and_what_lies_between_are_measured() -> None:
    times = iter([3.0, 3.5, 5.0])
    first, between = Histogram((10,)), Histogram((10,))
    meter = StreamMeter(first, between, 1.0, clock=lambda: next(times))
    cursor = Cursor.start(JOB_ID, 1)
    token = News(output(0, 0, "a"), cursor, 1)
    for news in ([News(Started("w"), cursor, 0)], [], [token], [token, token], [token]):
        if has_tokens(news):
            meter.sent()
    assert first.read() == HistogramReading((1, 0), 2.0)
    assert between.read() == HistogramReading((2, 0), 2.0)
