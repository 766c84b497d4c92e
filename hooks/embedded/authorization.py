"""Who may publish and subscribe: the ACL file, then the service's authorizer; the answers kept per connection."""

import time
from collections import OrderedDict
from dataclasses import dataclass

import aiohttp
import orjson
import structlog

from hooks.embedded.acl import Acl, Action

log = structlog.get_logger(__name__)

_TIMEOUT = aiohttp.ClientTimeout(total=15)


@dataclass(frozen=True)
class Question:
    """What EMQX keeps an answer under."""

    action: Action
    topic: str
    qos: int
    retain: bool = False


class Authorizer:
    """Asks `POST <url>/hooks/authz` what the file does not decide. `token` is the hooks' bearer token."""

    def __init__(self, acl: Acl, http: aiohttp.ClientSession, url: str, token: str) -> None:
        self._acl = acl
        self._http = http
        self._url = f"{url}/hooks/authz"
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    async def allows(self, username: str, clientid: str, question: Question) -> bool:
        """False also where nobody decides: the service away, or an answer that is none."""
        decided = self._acl.decide(username, clientid, question.action, question.topic)
        if decided is not None:
            return decided
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
                if response.status == 204:
                    return True
                if response.status == 200:
                    answer = orjson.loads(await response.read())
                    return isinstance(answer, dict) and answer.get("result") == "allow"
                log.warning("authorizer_undecided", status=response.status)
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
            log.warning("authorizer_away", error=repr(error))
        return False


class Permissions:
    """One connection's answers, denials too: 1,024 for an hour each; the one kept longest goes first."""

    SIZE = 1024
    SECONDS = 3600

    def __init__(self, authorizer: Authorizer, username: str, clientid: str) -> None:
        self._authorizer = authorizer
        self._username = username
        self._clientid = clientid
        self._kept: OrderedDict[Question, tuple[bool, float]] = OrderedDict()
        self._generation = 0

    async def allows(self, question: Question) -> bool:
        answer, kept_at = self._kept.get(question, (False, 0.0))
        if kept_at and time.monotonic() - kept_at < self.SECONDS:
            return answer
        generation = self._generation
        answer = await self._authorizer.allows(self._username, self._clientid, question)
        if generation == self._generation:
            self._keep(question, answer)
        return answer

    def forget(self) -> None:
        """Drops all answers, and the one to a question that is being asked."""
        self._kept.clear()
        self._generation += 1

    def _keep(self, question: Question, answer: bool) -> None:
        self._kept.pop(question, None)
        if len(self._kept) >= self.SIZE:
            self._kept.popitem(last=False)
        self._kept[question] = (answer, time.monotonic())
