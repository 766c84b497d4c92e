"""Checks whether EMQX keeps denials that nobody decided, which happens after any outage unless the service drops
them.
"""

from typing import Any

from hooks.doctor import Finding, fail, ok, warn
from hooks.doctor.broker import EMQX
from hooks.emqx.management import Management
from hooks.emqx.rest import BrokerRefused
from hooks.emqx.rules.difference import amount

_SHORT = 60_000
"""Milliseconds that a denial may be kept without harm."""
_NOBODY = "emqx-im-doctor"
"""The clientid of a client that does not exist: an API key that may drop its cache may drop any."""
_ADMINISTRATOR = (
    "use an API key with the role administrator; otherwise set authorization.cache.ttl to a minute, for more questions"
)


async def kept_denials(api: Management) -> list[Finding]:
    cache = (await api.get("/authorization/settings") or {}).get("cache", {})
    ttl = cache.get("ttl", "1m")
    kept = (amount(ttl) or 0) if cache.get("enable", True) else 0
    after = f"after an outage, questions that nobody decided stay denied for {ttl}"
    bad = fail if kept > _SHORT else warn
    try:
        await api.delete(f"/clients/{_NOBODY}/authorization/cache")
        status = await api.get("/authorization/sources/http/status")
    except BrokerRefused as error:
        return (
            [bad(EMQX, f"{after}: this API key may not find and drop such denials ({error})", _ADMINISTRATOR)]
            if kept
            else []
        )
    if status is None:
        return []  # that there is no such source is said elsewhere
    away = [each["node"] for each in status["node_status"] if each["status"] != "connected"]
    if away:
        what = f"{', '.join(away)} has no connection to the authorizer, and denies groups and tags"
        mend = "start the service, and make IM_HOOK_URL reachable from there"
        return [fail(EMQX, what, mend, "EmqxImQuestionsUndecided")]
    undecided = _undecided(status)
    if undecided is None:
        return [bad(EMQX, f"{after}: this EMQX does not count them", "upgrade EMQX to 5.8.6 or newer")] if kept else []
    return [ok(EMQX, f"the authorizer is connected; {undecided} questions were undecided since EMQX started")]


def _undecided(status: Any) -> int | None:
    counts = [each["metrics"] for each in status["node_metrics"]]
    if not all({"nomatch", "ignore"} <= set(each) for each in counts):
        return None
    return sum(int(each["nomatch"]) + int(each["ignore"]) for each in counts)
