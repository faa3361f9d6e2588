from __future__ import annotations

import json

import pytest

from shared.domain.histogram import HistogramReading
from shared.domain.worker_report import FAMILIES, JOBS_ENDED, PUBLISH, START_TIME, STEPS, WorkerReport
from shared.errors import DecodeError

PUBLISHED = HistogramReading((1,) + (0,) * len(PUBLISH.buckets), 0.5)


def test_a_report_comes_back_as_it_was() -> None:
    report = WorkerReport(
        {
            STEPS.name: {"": 7.0},
            PUBLISH.name: {"": PUBLISHED},
            JOBS_ENDED.name: {"completed": 2.0, "failed": 1.0},
            START_TIME.name: {"": 12.5},
        }
    )
    assert WorkerReport.decode(report.encode()) == report
    assert report.started_at == 12.5 and WorkerReport({}).started_at == 0


def test_unknown_families_are_ignored() -> None:
    raw = json.dumps({"baton_worker_secrets": {"": 1}, STEPS.name: {"": 1}})
    assert WorkerReport.decode(raw) == WorkerReport({STEPS.name: {"": 1.0}})


def test_the_values_of_a_label_are_bounded() -> None:
    raw = json.dumps({JOBS_ENDED.name: {f"w{n:03}": n for n in range(1000)}})
    assert len(WorkerReport.decode(raw).measured[JOBS_ENDED.name]) == 32


@pytest.mark.parametrize(
    "raw",
    ["", "[]", "7", '{"baton_worker_steps": 3}', '{"baton_worker_steps": {"": "3"}}',
     '{"baton_worker_publish_seconds": {"": 3}}', '{"baton_worker_publish_seconds": {"": [[1, 2], 3]}}'],
)  # fmt: skip
def test_damage_is_a_decode_error(raw: str) -> None:
    with pytest.raises(DecodeError):
        WorkerReport.decode(raw)


def test_each_family_has_a_name_of_its_own() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
