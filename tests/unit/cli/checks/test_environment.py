from __future__ import annotations

from cli.checks.environment import check_settings, known


def test_every_wrong_variable_is_told() -> None:
    environ = {"BATON_PRT": "1", "BATON_PORT": "x", "BATON_LEASE_S": "-1", "PATH": "/bin"}
    found = check_settings(environ)
    assert {finding.level for finding in found} == {"fail"}
    assert [finding.detail.partition(":")[0] for finding in found] == [
        "BATON_PRT is not a setting; did you mean BATON_PORT?",
        "BATON_PORT=x",
        "BATON_LEASE_S=-1",
    ]


def test_settings_that_are_unsafe_together() -> None:
    (finding,) = check_settings({"BATON_HOST": "0.0.0.0"})
    assert finding.level == "fail" and "BATON_API_KEYS" in finding.detail
    (finding,) = check_settings({"BATON_HOST": "0.0.0.0", "BATON_API_KEYS": "secret"})
    assert (finding.level, finding.detail) == ("ok", "BATON_API_KEYS, BATON_HOST")


def test_no_value_of_a_setting_is_shown_that_is_right() -> None:
    (finding,) = check_settings({"BATON_API_KEYS": "secret"})
    assert "secret" not in finding.detail


def test_known_leaves_out_what_is_no_setting() -> None:
    assert known({"BATON_PRT": "1", "BATON_PORT": "2", "PATH": "/bin"}) == {"BATON_PORT": "2", "PATH": "/bin"}
