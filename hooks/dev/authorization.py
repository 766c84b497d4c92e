"""Decides who may publish and subscribe: by the ACL file, then by the service; caches answers for each connection."""

import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, replace
from typing import Literal

import aiohttp
import orjson
import structlog

from hooks.dev.acl import Acl, Action
from hooks.dev.faults import Faults

log = structlog.get_logger(__name__)

_TIMEOUT = aiohttp.ClientTimeout(total=5)
"""`request_timeout` of the authorizer."""
_MAY_PASS = (429, 503)
_DELAYED = "$delayed/"

Answer = Literal["allow", "deny", "ignore", "nomatch"]
"""How EMQX counts answers: `ignore` and `nomatch` decide nothing. A service that is away, silent, or answers an error
counts as `ignore`, an answer of success that says nothing as `nomatch`."""

_RESULTS = ("allow", "deny", "ignore")


@dataclass(frozen=True)
class Question:
    """The key under which EMQX caches an answer."""

    action: Action
    topic: str
    qos: int
    retain: bool = False


class Authorizer:
    """Asks `POST <url>/hooks/authz` what the file does not decide. `token` is the hooks' bearer token.

    `counts` has the answers by kind, and as EMQX counts requests those that were a `success` and those that `failed`
    for good; neither are those that may succeed later.
    """

    def __init__(
        self, acl: Acl, http: aiohttp.ClientSession, url: str, token: str, faults: Faults | None = None
    ) -> None:
        self.faults = faults or Faults()
        self.counts: Counter[str] = Counter()
        self.drained_at = 0.0
        self._look_again_at = 0.0
        self._acl = acl
        self._http = http
        self._url = f"{url}/hooks/authz"
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    async def allows(self, username: str, clientid: str, question: Question) -> bool:
        """Returns whether it is allowed; False also if nobody decides, because the service is away or its answer is
        none."""
        if self.faults.booting:
            return False
        decided = self._acl.decide(username, clientid, question.action, question.topic)
        if decided is not None:
            return decided
        answer = await self._ask(username, clientid, question)
        self.counts[answer] += 1
        return answer == "allow"

    def drain(self) -> None:
        """Drops every client's answers. The answer to a question that is being asked is newer, and is kept."""
        self.drained_at = time.monotonic()

    @property
    def connected(self) -> bool:
        """Returns whether the service is asked, as the API's `status` says; true while it is away, too."""
        return time.monotonic() >= self._look_again_at

    async def _ask(self, username: str, clientid: str, question: Question) -> Answer:
        if not self.connected:
            log.warning("authorizer_not_connected")
            return "ignore"
        body = {
            "username": username,
            "clientid": clientid,
            "topic": question.topic,
            "action": question.action,
            "qos": str(question.qos),
        }
        try:
            answering = self._http.post(self._url, data=orjson.dumps(body), headers=self._headers, timeout=_TIMEOUT)
            async with answering as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            if not isinstance(error, TimeoutError):
                self._look_again_at = time.monotonic() + self.faults.reconnect_seconds
            log.warning("authorizer_away", error=repr(error))
            return "ignore"
        if 200 <= response.status < 300:
            self.counts["success"] += 1
            return _result(response.status, response.content_type, content)
        if response.status not in _MAY_PASS:
            self.counts["failed"] += 1
        log.warning("authorizer_undecided", status=response.status)
        return "ignore"


def _result(status: int, content_type: str, content: bytes) -> Answer:
    if status == 204:
        return "allow"
    if status != 200 or content_type != "application/json":
        return "nomatch"
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        return "nomatch"
    result = answer.get("result") if isinstance(answer, dict) else None
    return result if result in _RESULTS else "nomatch"


class Permissions:
    """One connection's answers, denials too: 1,024 for an hour each; the one kept longest goes first."""

    SIZE = 1024
    SECONDS = 3600

    def __init__(self, authorizer: Authorizer, username: str, clientid: str) -> None:
        self._authorizer = authorizer
        self._username = username
        self._clientid = clientid
        self._kept: OrderedDict[Question, tuple[bool, float]] = OrderedDict()

    async def allows(self, question: Question) -> bool:
        """Returns whether it is allowed. For `$delayed/<seconds>/<topic>` it asks about the topic, as EMQX does."""
        if question.topic.startswith(_DELAYED):
            _, slash, topic = question.topic.removeprefix(_DELAYED).partition("/")
            return bool(slash) and await self.allows(replace(question, topic=topic))
        answer, kept_at = self._kept.get(question, (False, 0.0))
        if kept_at > self._authorizer.drained_at and time.monotonic() - kept_at < self.SECONDS:
            return answer
        answer = await self._authorizer.allows(self._username, self._clientid, question)
        self._keep(question, answer)
        return answer

    def forget(self) -> None:
        """Drops all answers."""
        self._kept.clear()

    def _keep(self, question: Question, answer: bool) -> None:
        self._kept.pop(question, None)
        if len(self._kept) >= self.SIZE:
            self._kept.popitem(last=False)
        self._kept[question] = (answer, time.monotonic())
