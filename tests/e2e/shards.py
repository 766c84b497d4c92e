"""The stack with its timelines on several shards: of the embedded Valkey, or of a cluster with a broker in front."""

import socket
import sys
import urllib.request
from pathlib import Path

import orjson

from hooks.dev.directory import Secrets
from tests.cluster import TestCluster
from tests.e2e.stack import Stack
from tests.integration.events.back_end import SECRET
from tests.servers import Server

SHARDS = 3

_SECRETS = Secrets(
    hook_token="hook-token",
    admin_token="admin-token",
    jwt_secret="a secret of the tests that is long enough",
    secret="hmac-secret",
    emqx_api_key="key",
    emqx_api_secret="api-secret",
    events_secret=SECRET,
    redis_password="",
)


class ClusterStack(Stack):
    """`emqx-im serve` on a cluster, and the broker of `emqx-im dev` as a process of its own."""

    def __init__(self, directory: Path, cluster: TestCluster, **settings: str) -> None:
        super().__init__(directory)
        self.data_dir.mkdir(parents=True)
        self._secrets = _SECRETS
        self.trusted_send = False
        self.cluster = cluster
        given = {
            **{"IM_HTTP_PORT": str(self.http_port), "IM_REDIS_URL": cluster.url, "IM_SHARDS": str(SHARDS)},
            **{"IM_ARCHIVE_URL": f"sqlite:///{self.data_dir}/archive.sqlite3"},
            **{"IM_EMQX_API_URL": f"http://127.0.0.1:{self.api_port}", "IM_EMQX_API_KEY": _SECRETS.emqx_api_key},
            **{"IM_EMQX_API_SECRET": _SECRETS.emqx_api_secret, "IM_HOOK_TOKEN": _SECRETS.hook_token},
            **{"IM_ADMIN_TOKEN": _SECRETS.admin_token, "IM_JWT_SECRET": _SECRETS.jwt_secret},
            **{"IM_SECRET": _SECRETS.secret, **settings},
        }
        broker = {
            **{"mqtt": self.mqtt_port, "ws": self.ws_port, "api": self.api_port, "url": self.url},
            **{"jwt_secret": _SECRETS.jwt_secret, "hook_token": _SECRETS.hook_token},
            **{"api_secret": _SECRETS.emqx_api_secret},
        }
        environment = ["/usr/bin/env", *(f"{name}={value}" for name, value in given.items())]
        self._broker = Server(
            [sys.executable, "-m", "tests.chaos.broker", orjson.dumps(broker).decode()],
            *(self.mqtt_port, directory / "broker.log", self._listens),
        )
        self._service = Server(
            [*environment, sys.executable, "-m", "hooks.cli", "serve"],
            *(self.http_port, directory / "serve.log", self._ready),
        )

    def start(self) -> None:
        """Returns once the service is ready."""
        self._service.start()
        self._broker.start()

    def stop(self) -> int:
        """As a service manager does. The exit status."""
        self._broker.stop()
        self._service.stop()
        return self._service.status

    def kill(self) -> None:
        """kill -9 of service and broker."""
        for server in (self._service, self._broker):
            if server.running:
                server.kill()

    def _ready(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/readyz", timeout=5).close()
        except OSError:
            return False
        return True

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.mqtt_port), 1).close()
        except OSError:
            return False
        return True
