from __future__ import annotations

from pathlib import Path

from cli.supervisor.flower_password import flower_auth


def test_made_once_kept_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "flower.password"
    first = flower_auth(path)
    again = flower_auth(path)
    assert (first.is_new, again.is_new) == (True, False)
    assert first.text == again.text
    assert first.text.startswith("baton:") and len(first.text) > 24
    assert path.stat().st_mode & 0o777 == 0o600
