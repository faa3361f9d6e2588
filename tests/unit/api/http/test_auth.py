"""Keys make principals, without revealing the key."""

from __future__ import annotations

import pytest

from api.http.auth import PUBLIC, Keys
from shared.errors import RequestError


def test_without_keys_everybody_is_public_and_may_do_everything() -> None:
    principal = Keys(()).principal([])
    assert principal == Keys(()).principal(["Bearer x"]) == Keys(()).principal(["a", "b"])
    assert principal.id == PUBLIC and principal.scopes == {"inference", "admin", "metrics"}


def test_a_key_is_a_stable_principal() -> None:
    keys = Keys(("sk-a", "sk-b"))
    assert keys.principal(["Bearer sk-a"]) == Keys(("sk-a",)).principal(["bearer  sk-a "])
    assert keys.principal(["Bearer sk-a"]) != keys.principal(["Bearer sk-b"])
    assert "sk-a" not in keys.principal(["Bearer sk-a"]).id


def test_admin_keys_have_more_scopes() -> None:
    keys = Keys(("sk-a", "sk-both"), ("sk-admin", "sk-both"))
    plain, admin, both = (keys.principal([f"Bearer {key}"]) for key in ("sk-a", "sk-admin", "sk-both"))
    assert plain.scopes == {"inference"} and not plain.is_admin
    assert admin.is_admin and both.is_admin and admin.id != both.id
    admin.require("admin", "This")
    with pytest.raises(RequestError, match="This requires the scope 'admin'") as caught:
        plain.require("admin", "This")
    assert (caught.value.info.status, caught.value.info.code) == (403, "insufficient_scope")


def test_admin_keys_alone_are_keys() -> None:
    keys = Keys((), ("sk-admin",))
    assert not keys.is_open
    with pytest.raises(RequestError):
        keys.principal([])


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "No API key was sent"),
        ("", "No API key was sent"),
        ("Bearer", "No API key was sent"),
        ("Bearer ", "No API key was sent"),
        ("sk-a", "No API key was sent"),
        ("Basic sk-a", "Incorrect API key"),
        ("Bearer sk-c", "Incorrect API key"),
        ("Bearer é", "Incorrect API key"),
        ("Bearer " + "x" * 10_000, "Incorrect API key"),
    ],
)
def test_everything_else_is_refused(header: str | None, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        Keys(("sk-a",)).principal([] if header is None else [header])
    assert (caught.value.info.status, caught.value.info.code) == (401, "invalid_api_key")


def test_two_headers_are_refused() -> None:
    with pytest.raises(RequestError) as caught:
        Keys(("sk-a",)).principal(["Bearer sk-a", "Bearer sk-b"])
    assert (caught.value.info.status, caught.value.info.code) == (400, "invalid_authorization")
