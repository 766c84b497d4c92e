"""Recognises EMQX's own ACL file, and files that allow everything, by their terms, whatever the layout."""

from hooks.emqx.rules.erlang_terms import Atom, TermError, terms

_STOCK = """
{allow, {username, {re, "^dashboard$"}}, subscribe, ["$SYS/#"]}.
{allow, {ipaddr, "127.0.0.1"}, all, ["$SYS/#", "#"]}.
{deny, all, subscribe, ["$SYS/#", {eq, "#"}, {eq, "+/#"}]}.
"""
"""Every version from 5.8 to 6.2 has these; 6.3 lacks the second."""

_OPEN = """
{allow, all}.
{allow, {security_profile, legacy}}.
"""
"""How they end: the second from 6.2.1 on, whose security profile is `legacy` unless somebody has set another."""


def _terms(text: str) -> list[object]:
    return [term for _, term in terms(text, "acl.conf")]


_STOCK_TERMS, _OPEN_TERMS = _terms(_STOCK), _terms(_OPEN)


def is_stock(text: str) -> bool:
    """Returns whether this says nothing but what EMQX came with, so that replacing it destroys nobody's work.

    A file that does not end by allowing everything is somebody's, even if they only removed lines.
    """
    try:
        held = _terms(text)
    except TermError:
        return False
    return bool(held) and held[-1] in _OPEN_TERMS and all(term in _STOCK_TERMS for term in held[:-1])


def allows_all(text: str) -> bool:
    """Returns whether it allows everything that no line before denies. A file that cannot be read counts as one that
    does not."""
    try:
        return any(map(_opens, _terms(text)))
    except TermError:
        return False


def _opens(term: object) -> bool:
    match term:
        case (Atom("allow"), Atom("all"), Atom("all"), [*topics]):
            return "#" in topics
    return term in _OPEN_TERMS
