"""The ACL that EMQX comes with is told from one that somebody wrote."""

import pytest

from hooks.emqx.rules.render import Parameters, Rules
from hooks.emqx.rules.stock_acl import allows_all, is_stock
from tests.integration.emqx.shapes import STOCK_ACL

DASHBOARD = '{allow, {username, {re, "^dashboard$"}}, subscribe, ["$SYS/#"]}.\n'
LOCAL = '{allow, {ipaddr, "127.0.0.1"}, all, ["$SYS/#", "#"]}.\n'
NOBODY = '{deny, all, subscribe, ["$SYS/#", {eq, "#"}, {eq, "+/#"}]}.\n'

STOCK = {
    "5.8 to 6.2.0": f"%% -type(...).\n{DASHBOARD}\n{LOCAL}\n{NOBODY}\n{{allow, all}}.\n%% NOTE",
    "6.2.1": f"{DASHBOARD}\n{LOCAL}\n{NOBODY}\n{{allow, {{security_profile, legacy}}}}.\n",
    "6.3": f"{DASHBOARD}\n{NOBODY}\n{{allow, {{security_profile, legacy}}}}.\n",
    "without comments, in other lines": f"{DASHBOARD.replace(', ', ',')} {LOCAL}{NOBODY.strip()}{{ 'allow',\n all }} .",
    "of the fake": STOCK_ACL,
}


@pytest.mark.parametrize("name", STOCK)
def test_stock(name: str) -> None:
    assert is_stock(STOCK[name])
    assert allows_all(STOCK[name])


SOMEBODYS = {
    "a line of their own": DASHBOARD + '{allow, {username, "tool"}, all, ["tools/#"]}.\n' + "{allow, all}.\n",
    "a line behind": DASHBOARD + "{allow, all}.\n" + '{allow, {username, "tool"}, all, ["tools/#"]}.\n',
    "another address": LOCAL.replace("127.0.0.1", "10.0.0.0/8") + "{allow, all}.\n",
    "closed": DASHBOARD + LOCAL + NOBODY + "{deny, all}.\n",
    "without its last line": DASHBOARD + LOCAL + NOBODY,
    "a form that is not understood": '{allow, all, {publish, [{qos, 1}]}, [<<"a">>]}.\n{allow, all}.\n',
    "the stock comments only": "%%-------------- Default ACL rules -------\n%% {allow, all}.\n",
    "a rule of two": '{allow, {\'and\', [{clientid, "a"}, {username, "b"}]}, all, ["c"]}.\n{allow, all}.\n',
    "nothing": "",
}


@pytest.mark.parametrize("name", SOMEBODYS)
def test_somebody_s(name: str) -> None:
    assert not is_stock(SOMEBODYS[name])


@pytest.mark.parametrize(
    ("text", "open_"),
    [
        ('{allow, all, all, ["a", "#"]}.', True),
        ('{allow, all, subscribe, ["#"]}.', False),
        ('{deny, {username, "x"}, all, ["#"]}. {allow, all}.', True),
        ("%% {allow, all}.\n{deny, all}.", False),
        ("{allow, {security_profile, hardened}}.", False),
    ],
)
def test_what_allows_everything(text: str, open_: bool) -> None:
    assert allows_all(text) is open_


@pytest.mark.parametrize("trusted_send", [False, True])
def test_ours_is_neither(trusted_send: bool) -> None:
    acl = Rules(Parameters("emqx_im", "http://im:8080", "token", "jwt", None, trusted_send)).acl
    assert not is_stock(acl)
    assert not allows_all(acl)
