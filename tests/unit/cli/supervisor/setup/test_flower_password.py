from __future__ import annotations

from pathlib import Path

from cli.supervisor.setup.flower_password import flower_auth, keep_flower_auth


def test_one_that_was_never_shown_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "flower.password"
    assert flower_auth(path).text != flower_auth(path).text
    assert not path.exists()


def test_made_once_kept_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "flower.password"
    first = flower_auth(path)
    keep_flower_auth(path, first)
    again = flower_auth(path)
    keep_flower_auth(path, again)
    assert (first.is_new, again.is_new) == (True, False)
    assert first.text == again.text
    assert first.text.startswith("baton:") and len(first.text) > 24
    assert path.stat().st_mode & 0o777 == 0o600
