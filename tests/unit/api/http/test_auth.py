"""Keys make owners, without telling the key."""

from __future__ import annotations

import pytest

from api.http.auth import PUBLIC, Keys, refuse_cross_site
from shared.errors import RequestError


def test_without_keys_everybody_is_public() -> None:
    assert Keys(()).owner(None) == Keys(()).owner("Bearer x") == PUBLIC


def test_a_key_is_a_stable_owner() -> None:
    keys = Keys(("sk-a", "sk-b"))
    assert keys.owner("Bearer sk-a") == Keys(("sk-a",)).owner("bearer  sk-a ")
    assert keys.owner("Bearer sk-a") != keys.owner("Bearer sk-b")
    assert "sk-a" not in keys.owner("Bearer sk-a")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic sk-a",
        "sk-a",
        "Bearer sk-c",
        "Bearer é",
        "Bearer " + "x" * 10_000,
    ],
)
def test_everything_else_is_refused(header: str | None) -> None:
    with pytest.raises(RequestError) as caught:
        Keys(("sk-a",)).owner(header)
    assert (caught.value.info.status, caught.value.info.code) == (401, "invalid_api_key")


def test_pages_of_other_sites_may_read_and_not_act() -> None:
    for site in (None, "none", "same-origin", "same-site"):
        refuse_cross_site("POST", site)
    refuse_cross_site("GET", "cross-site")
    with pytest.raises(RequestError) as caught:
        refuse_cross_site("POST", "cross-site")
    assert (caught.value.info.status, caught.value.info.code) == (403, "cross_site_request")
