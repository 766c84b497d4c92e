"""Checks the service's webhook by asking it as EMQX does."""

import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime

import aiohttp

from hooks.doctor import Finding, clock, fail, ok, warn
from store.addresses import Inbox, SendTopic

SERVICE = "service"
_QUESTION = {"username": "1", "clientid": "1-doctor", "topic": Inbox(1).topic, "action": "subscribe", "qos": "1"}
_SENDING = {**_QUESTION, "topic": SendTopic(Inbox(1)).topic, "action": "publish"}
"""Allowed exactly where the service runs with trusted sending."""
_WRONG_TOKEN = "not-the-token-of-any-hook"  # noqa: S105


async def webhook(url: str, tokens: Sequence[str], *, trusted_send: bool = False) -> list[Finding]:
    """Checks that each token is accepted and a wrong one refused, and that the way of sending is the configured one."""
    timeout = aiohttp.ClientTimeout(total=10, connect=5)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        try:
            statuses = [(await _asked(session, url, token))[0] for token in tokens]
            wrong, _ = await _asked(session, url, _WRONG_TOKEN)
            sending = await _asked(session, url, tokens[0], _SENDING)
            readiness = await _readiness(session, url)
            clocks = [*await _clock(session, url), *await _console(session, url)]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            what = f"{url} does not answer: {error or type(error).__name__}"
            return [fail(SERVICE, what, "start `emqx-im serve`; if it has another address from here, pass --url")]
    found = []
    for number, status in enumerate(statuses, 1):
        if status == 401:
            found.append(
                fail(SERVICE, f"refuses token {number} of IM_HOOK_TOKEN", "give the service the same IM_HOOK_TOKEN")
            )
        elif status != 200:
            found.append(
                fail(
                    SERVICE,
                    f"/hooks/authz answers {status}",
                    "check that this is the service's address, and see its log",
                )
            )
    if wrong != 401:
        found.append(
            fail(SERVICE, f"answers {wrong} to a wrong token", "look for a proxy in front of it that answers by itself")
        )
    found = found or [ok(SERVICE, "the webhook answers, and accepts only its tokens")]
    return [*found, *_sending(*sending, trusted_send), readiness, *clocks]


async def _asked(
    session: aiohttp.ClientSession, url: str, token: str, question: dict[str, str] = _QUESTION
) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {token}"}
    async with session.post(f"{url}/hooks/authz", json=question, headers=headers) as answer:
        return answer.status, await answer.read()


def _sending(status: int, answer: bytes, trusted_send: bool) -> list[Finding]:
    """Returns whether the service judges what users publish as this machine's settings say."""
    runs = b'"allow"' in answer
    if status != 200 or runs == trusted_send:
        return []
    what = f"runs with IM_TRUSTED_SEND={str(runs).lower()}, but here it is {str(trusted_send).lower()}"
    return [
        fail(
            SERVICE, what, "give service, `rules` and `doctor` the same IM_TRUSTED_SEND, then run `emqx-im rules apply`"
        )
    ]


async def _readiness(session: aiohttp.ClientSession, url: str) -> Finding:
    async with session.get(f"{url}/readyz") as answer:
        state = await answer.json(content_type=None) if answer.status in (200, 503) else {}
    if answer.status not in (200, 503):
        return fail(SERVICE, f"/readyz answers {answer.status}", "check that this is the service's address")
    if not state.get("ready"):
        error = state.get("error", {})
        return fail(SERVICE, f"is not ready: {error.get('message', error)}", "see Redis below, and the service's log")
    archive = state.get("archive", {})
    if archive.get("state") != "ok":
        return warn(
            SERVICE, f"does not archive: {archive.get('state')}", "repair the archive; until then the outbox grows"
        )
    return ok(SERVICE, f"is ready, with {archive.get('outbox_length')} outbox entries to archive")


async def _clock(session: aiohttp.ClientSession, url: str) -> list[Finding]:
    asked = time.time()
    async with session.get(f"{url}/healthz") as answer:
        date = answer.headers.get("Date")
    if date is None:
        return []
    # The header has whole seconds, cut off.
    offset = parsedate_to_datetime(date).timestamp() + 0.5 - (asked + time.time()) / 2
    return [clock(SERVICE, offset, precision=1.0)]


async def _console(session: aiohttp.ClientSession, url: str) -> list[Finding]:
    """Returns whether operators have the console, and why not."""
    async with session.get(f"{url}/console/") as answer:
        if answer.status != 404:
            return [ok(SERVICE, "serves the console")] if answer.status == 200 else []
        said = await answer.text()
    # Whatever stands before the service may answer 404 in its own words.
    _, off, reason = said.partition("the console is off: ")
    reason = reason.rstrip('"}')
    what, _, mend = reason.partition(": ")
    if not off:
        return []
    return [
        warn(SERVICE, f"does not serve the console: {what}", mend) if mend else ok(SERVICE, f"has no console: {what}")
    ]
