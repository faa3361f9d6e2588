from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from workers.native import build, ops, structs
from workers.native.ops import native_library
from workers.native.structs import STRUCTS, WrongLayout, check_layouts


def layouts() -> list[int]:
    return [number for struct in STRUCTS for number in structs._layout(struct)]


def test_equal_layouts_pass() -> None:
    check_layouts(layouts())


@pytest.mark.parametrize("index", range(len(layouts())))
def test_a_struct_whose_size_or_field_differs_is_named(index: int) -> None:
    found = layouts()
    found[index] += 8
    with pytest.raises(WrongLayout, match=STRUCTS[layouts()[:index].count(-1)].__name__):
        check_layouts(found)


@pytest.mark.parametrize("surplus", [[8, 0, -1], [0]])
def test_a_struct_more_is_refused(surplus: list[int]) -> None:
    with pytest.raises(WrongLayout, match="more structs"):
        check_layouts(layouts() + surplus)


@pytest.mark.parametrize("num_missing", [1, 30])
def test_a_struct_less_is_refused(num_missing: int) -> None:
    with pytest.raises(WrongLayout):
        check_layouts(layouts()[:-num_missing])


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_a_library_with_another_layout_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sources = tmp_path / "csrc"
    shutil.copytree(Path(build.__file__).with_name("csrc"), sources)
    main = sources / "ops.c"
    text = main.read_text(encoding="utf-8")
    changed = text.replace("void *normed;", "void *normed, *more;")
    assert changed != text
    main.write_text(changed, encoding="utf-8")
    library = tmp_path / "other.so"
    command = ["cc", "-std=gnu11", "-O0", "-w", "-fPIC", "-shared", str(main), "-o", str(library), "-lm"]
    subprocess.run(command, check=True)
    monkeypatch.setattr(ops, "find_native", lambda: library)
    native_library.cache_clear()
    try:
        assert native_library() is None
    finally:
        native_library.cache_clear()
    assert "NormArguments" in caplog.text and str(library) in caplog.text
