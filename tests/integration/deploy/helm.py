"""Charts rendered by Helm's own engine, against an API server on loopback that keeps what it is given.

The engine is the shared library in the wheel of `helm-sdkpy`, whose Python part needs a newer Python than we do.
"""

import base64
import ctypes
import gzip
import json
import platform
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

_LOCK = Path(__file__).with_name("helm.lock")
_KEPT = Path(sys.prefix) / "share" / "helm-sdkpy"
_LIBRARY = "helm_sdkpy/_lib/linux-amd64/libhelm_sdkpy.so"

Manifest = dict[str, Any]


class HelmMissing(RuntimeError):
    """Helm's engine could not be brought here."""


class HelmError(Exception):
    """Helm's own message."""


def library() -> Path:
    """Returns the shared library, downloaded once into the virtual environment and checked against helm.lock."""
    if (system := f"{platform.system()} {platform.machine()}") != "Linux x86_64":
        raise HelmMissing(
            f"the chart is tested with Helm's engine, which helm-sdkpy has for Linux x86_64, not {system}"
        )
    kept = _KEPT / Path(_LIBRARY).name
    if not kept.exists():
        _KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_KEPT) as directory:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
            command += ["--python-version", "3.12", "--only-binary", ":all:", "-d", directory, "-r", str(_LOCK)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise HelmMissing(f"helm-sdkpy could not be downloaded: {done.stderr.strip().splitlines()[-1]}")
            wheel = next(Path(directory).glob("*.whl"))
            with zipfile.ZipFile(wheel) as packed:
                Path(packed.extract(_LIBRARY, directory)).rename(kept)
    return kept


class Helm:
    """One cluster. Not for the process of the tests: the library brings Go's runtime and its threads."""

    def __init__(self, objects: list[Manifest] | None = None) -> None:
        """objects: what the cluster holds already."""
        self._library = ctypes.CDLL(str(library()))
        self._library.helm_sdkpy_last_error.restype = ctypes.c_char_p
        self._cluster = _Cluster(objects or [])
        threading.Thread(target=self._cluster.serve_forever, daemon=True).start()
        self._handle = ctypes.c_ulonglong()
        where = self._cluster.kubeconfig().encode()
        self._call("config_create", b"default", where, b"", b"{}", ctypes.byref(self._handle))

    def install(self, release: str, chart: Path, values: Mapping[str, Any]) -> tuple[list[Manifest], str]:
        """Returns every manifest, hooks included, and the notes. Raises HelmError."""
        options = {
            "wait": False,
            "timeout_seconds": 60,
            "server_side_apply": "false",
            "disable_openapi_validation": True,
        }
        result = ctypes.c_char_p()
        try:
            self._call(
                "install",
                *(self._handle, release.encode(), str(chart).encode(), json.dumps(values).encode(), b""),
                *(json.dumps(options).encode(), ctypes.byref(result)),
            )
        except HelmError as error:
            # All is made and recorded by then; only a real cluster could run the jobs that follow.
            if not str(error).startswith("install failed: failed post-install:"):
                raise
        kept = self._cluster.release(release)
        texts = [kept["manifest"], *(hook["manifest"] for hook in kept.get("hooks") or [])]
        manifests = [part for text in texts for part in yaml.safe_load_all(text) if part is not None]
        return manifests, kept["info"].get("notes", "")

    def lint(self, chart: Path) -> list[dict[str, Any]]:
        result = ctypes.c_char_p()
        self._call("lint", self._handle, str(chart).encode(), ctypes.byref(result))
        messages: list[dict[str, Any]] = json.loads(result.value or b"{}")["Messages"] or []
        return messages

    def _call(self, name: str, *arguments: Any) -> None:
        if getattr(self._library, f"helm_sdkpy_{name}")(*arguments):
            raise HelmError((self._library.helm_sdkpy_last_error() or b"").decode())


def render(chart: Path, values: Mapping[str, Any], release: str, objects: list[Manifest]) -> tuple[list[Manifest], str]:
    """Renders one installation into its own cluster."""
    return Helm(objects).install(release, chart, values)


def lint(chart: Path) -> list[dict[str, Any]]:
    return Helm().lint(chart)


class _Cluster(ThreadingHTTPServer):
    """As much of a Kubernetes API server as an installation without waiting asks for."""

    daemon_threads = True

    def __init__(self, objects: list[Manifest]) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.objects: dict[str, Manifest] = {}
        self.kinds: dict[str, dict[str, tuple[str, bool]]] = _KINDS
        for manifest in objects:
            metadata = manifest["metadata"]
            self.objects[f"/api/v1/namespaces/default/secrets/{metadata['name']}"] = manifest

    def kubeconfig(self) -> str:
        cluster = {"server": f"http://127.0.0.1:{self.server_address[1]}"}
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": cluster}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "users": [{"name": "u", "user": {}}],
                "current-context": "c",
            }
        )

    def release(self, name: str) -> dict[str, Any]:
        """Returns what Helm keeps of it, from the secret it wrote."""
        found = [path for path in self.objects if f"/secrets/sh.helm.release.v1.{name}." in path]
        packed = base64.b64decode(base64.b64decode(self.objects[max(found)]["data"]["release"]))
        kept: dict[str, Any] = json.loads(gzip.decompress(packed))
        return kept


# Group and version to kind to (name in paths, whether it lies in a namespace).
_KINDS: dict[str, dict[str, tuple[str, bool]]] = {
    "v1": {
        "Secret": ("secrets", True),
        "ConfigMap": ("configmaps", True),
        "Service": ("services", True),
        "ServiceAccount": ("serviceaccounts", True),
        "Namespace": ("namespaces", False),
    },
    "apps/v1": {"Deployment": ("deployments", True), "StatefulSet": ("statefulsets", True)},
    "batch/v1": {"Job": ("jobs", True), "CronJob": ("cronjobs", True)},
    "autoscaling/v2": {"HorizontalPodAutoscaler": ("horizontalpodautoscalers", True)},
    "policy/v1": {"PodDisruptionBudget": ("poddisruptionbudgets", True)},
    "networking.k8s.io/v1": {"NetworkPolicy": ("networkpolicies", True), "Ingress": ("ingresses", True)},
    "rbac.authorization.k8s.io/v1": {"Role": ("roles", True), "RoleBinding": ("rolebindings", True)},
    "monitoring.coreos.com/v1": {
        "ServiceMonitor": ("servicemonitors", True),
        "PrometheusRule": ("prometheusrules", True),
    },
}


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    server: _Cluster

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _missing(self) -> None:
        self._answer(
            404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        )

    def _body(self) -> Manifest:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if data.startswith(_PROTOBUF):
            return _secret(data)
        body: Manifest = json.loads(data or b"{}")
        return body

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        discovered = self._discovery(path)
        if discovered is not None:
            self._answer(200, discovered)
        elif path in self.server.objects:
            self._answer(200, self.server.objects[path])
        elif path.rsplit("/", 1)[-1] in {name for kinds in _KINDS.values() for name, _ in kinds.values()}:
            items = [item for key, item in self.server.objects.items() if key.startswith(f"{path}/")]
            self._answer(200, {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items})
        else:
            self._missing()

    def _discovery(self, path: str) -> object | None:
        match path.strip("/").split("/"):
            case ["version"]:
                return {"major": "1", "minor": "31", "gitVersion": "v1.31.0"}
            case ["api"]:
                return {"kind": "APIVersions", "versions": ["v1"]}
            case ["apis"]:
                return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(v) for v in _KINDS if "/" in v]}
            case ["api", version] | ["apis", version]:
                return _resources(version)
            case ["apis", group, version]:
                return _resources(f"{group}/{version}")
        return None

    def do_POST(self) -> None:
        body = self._body()
        self.server.objects[f"{urlsplit(self.path).path}/{body['metadata']['name']}"] = body
        self._answer(201, body)

    def do_PUT(self) -> None:
        body = self._body()
        self.server.objects[urlsplit(self.path).path] = body
        self._answer(200, body)

    def do_PATCH(self) -> None:
        """Only says that it was done: what Helm meant to write is in the release's record."""
        self._body()
        self._answer(200, self.server.objects[urlsplit(self.path).path])

    def do_DELETE(self) -> None:
        self._body()
        if self.server.objects.pop(urlsplit(self.path).path, None) is None:
            self._missing()
        else:
            self._answer(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})


_PROTOBUF = b"k8s\0"


def _secret(data: bytes) -> Manifest:
    """Returns a Secret as Helm writes its releases: in Kubernetes' envelope for protobuf, as the fields it is read
    back by.
    """
    envelope = _fields(data.removeprefix(_PROTOBUF))
    secret = _fields(envelope[2][0])
    name = _fields(secret[1][0])[1][0].decode()
    entries = [_fields(entry) for entry in secret[2]]
    return {
        "kind": "Secret",
        "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "default"},
        "type": secret[3][0].decode(),
        "data": {entry[1][0].decode(): base64.b64encode(entry[2][0]).decode() for entry in entries},
    }


def _fields(message: bytes) -> dict[int, list[bytes]]:
    """Returns the fields of a protobuf message that have a length, by number."""
    fields: dict[int, list[bytes]] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            value |= (message[at] & 0x7F) << shift
            at += 1
            if message[at - 1] < 0x80:
                return value
            shift += 7

    while at < len(message):
        key = number()
        if key & 7 == 2:
            size = number()
            fields.setdefault(key >> 3, []).append(message[at : at + size])
            at += size
        else:
            number()
    return fields


def _group(version: str) -> object:
    name, _, number = version.partition("/")
    preferred = {"groupVersion": version, "version": number}
    return {"name": name, "versions": [preferred], "preferredVersion": preferred}


def _resources(version: str) -> object | None:
    if version not in _KINDS:
        return None
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    resources = [
        {"name": name, "kind": kind, "namespaced": namespaced, "singularName": "", "verbs": verbs}
        for kind, (name, namespaced) in _KINDS[version].items()
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}
