from __future__ import annotations

from pathlib import Path

from shared.host.cpu_info import cpu_field, cpu_flags, read_cpu_info


def test_fields_of_the_first_cpu(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("model name\t: A\nflags\t\t: fpu avx2\n\nmodel name\t: B\nflags\t\t: fpu\n")
    fields = read_cpu_info(info)
    assert fields == [("model name", "A"), ("flags", "fpu avx2"), ("model name", "B"), ("flags", "fpu")]
    assert cpu_field("model name", fields) == "A"
    assert cpu_flags(fields) == {"fpu", "avx2"}


def test_arm_calls_its_flags_features(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nFeatures\t: fp asimd\n")
    assert cpu_flags(read_cpu_info(info)) == {"fp", "asimd"}


def test_a_system_that_reports_nothing(tmp_path: Path) -> None:
    fields = read_cpu_info(tmp_path / "none")
    assert (list(fields), cpu_field("model name", fields), cpu_flags(fields)) == ([], "", frozenset())
