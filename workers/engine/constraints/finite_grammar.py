"""endless_start: finds a Lark grammar that no finite text matches, which the grammar library accepts."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""(?P<skip>[ \t\r\n]+|//[^\n]*|\#[^\n]*)|(?P<text>"(?:\\.|[^"\\\n])*"i?|/(?:\\.|[^/\\\n])+/[a-z]*)"""
    r"""|(?P<begin>[A-Za-z_]\w*)[ \t]*:(?!:)|(?P<name>[A-Za-z_]\w*)|(?P<count>\{[0-9, ]*\})|(?P<mark>[|()?*+])"""
)
#: What an alternative needs: names of rules, or a group of alternatives.
_Alternatives = list[list["str | _Alternatives"]]


def endless_start(grammar: str) -> bool:
    """Whether each text of the rule `start` is endless. False for syntax that is not known here."""
    rules = _rules(grammar)
    if rules is None or "start" not in rules:
        return False
    endless = set(rules)
    while found := {name for name in endless if _is_finite(rules[name], endless)}:
        endless -= found
    return "start" in endless


def _is_finite(alternatives: _Alternatives, endless: set[str]) -> bool:
    return any(
        all(need not in endless if isinstance(need, str) else _is_finite(need, endless) for need in needs)
        for needs in alternatives
    )


def _rules(grammar: str) -> dict[str, _Alternatives] | None:
    """Return the alternatives of each rule. None if the syntax is not known here.

    Terminals are left out: the library itself finds those that match nothing.
    """
    rules: dict[str, _Alternatives] = {}
    open_groups: list[_Alternatives] = []
    position = 0
    while position < len(grammar):
        token = _TOKEN.match(grammar, position)
        if token is None:
            return None
        position, kind, text = token.end(), token.lastgroup, token[token.lastgroup or 0]
        if kind == "skip":
            continue
        if kind == "begin":
            if len(open_groups) > 1 or text in rules:
                return None
            rules[text] = [[]]
            open_groups = [rules[text]]
        elif not open_groups or not _take(open_groups, kind, text):
            return None
    return (
        {name: found for name, found in rules.items() if name[0].islower()} if len(open_groups) == 1 else None
    )


def _take(open_groups: list[_Alternatives], kind: str | None, text: str) -> bool:
    """Add a token to the innermost group. Returns whether it may stand there."""
    needs = open_groups[-1][-1]
    if kind == "name" or kind == "text":
        needs.append(text if kind == "name" else [[]])
    elif text == "|":
        open_groups[-1].append([])
    elif text == "(":
        group: _Alternatives = [[]]
        needs.append(group)
        open_groups.append(group)
    elif text == ")":
        open_groups.pop()
        return bool(open_groups)
    elif not needs:
        return False
    elif text in "?*" or text.startswith(("{0", "{,", "{ ")):
        needs[-1] = [[]]
    return True
