"""A request's key contains the owner, and only hashes of the rest."""

from __future__ import annotations

from shared.domain.request_key import RequestKey


def test_the_order_of_fields_does_not_matter() -> None:
    assert RequestKey.of("k", "o", "/x", {"a": 1, "b": 2}) == RequestKey.of("k", "o", "/x", {"b": 2, "a": 1})


def test_endpoint_and_body_make_the_fingerprint() -> None:
    base = RequestKey.of("k", "o", "/x", {"a": 1})
    others = [RequestKey.of("k", "o", "/y", {"a": 1}), RequestKey.of("k", "o", "/x", {"a": 1.5})]
    assert {other.name for other in others} == {base.name}
    assert base.fingerprint not in {other.fingerprint for other in others}


def test_owner_and_text_make_the_name() -> None:
    names = {RequestKey.of(text, owner, "/x", {}).name for text in ("k", "l") for owner in ("o", "p")}
    assert len(names) == 4
