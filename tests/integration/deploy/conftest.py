"""Renders the chart with Helm."""

import functools
import multiprocessing
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.integration.deploy import helm
from tests.integration.deploy.chart import CHART, Render
from tests.integration.deploy.helm import Manifest


@pytest.fixture(scope="session", autouse=True)
def schemas_read_once() -> Iterator[None]:
    """The definitions of one version are megabytes of JSON."""
    with pytest.MonkeyPatch.context() as patch:
        read = functools.cache(kubernetes_validate.utils.schema_contents)
        patch.setattr(kubernetes_validate.utils, "schema_contents", read)
        yield


@pytest.fixture(scope="session")
def engine() -> Iterator[ProcessPoolExecutor]:
    helm.library()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="session")
def render(engine: ProcessPoolExecutor) -> Render:
    def run(
        values: dict[str, Any], *, chart: Path = CHART, release: str = "emqx-im", objects: list[Manifest] | None = None
    ) -> tuple[list[Manifest], str]:
        return engine.submit(helm.render, chart, values, release, objects or []).result(60)

    return run


STAND_IN = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: {{ .Values.fullnameOverride }}}
spec:
  serviceName: {{ .Values.fullnameOverride }}
  replicas: {{ .Values.replicaCount }}
  selector: {matchLabels: {app: emqx}}
  template:
    metadata: {labels: {app: emqx}}
    spec:
      volumes: {{- toYaml .Values.extraVolumes | nindent 8 }}
      initContainers: {{- toYaml .Values.initContainers | nindent 8 }}
      containers:
        - name: emqx
          image: emqx
          envFrom:
            - secretRef: {name: {{ .Values.envFromSecret }}}
          env:
            {{- range $name, $value := .Values.emqxConfig }}
            {{- if $value }}
            - {name: {{ $name }}, value: {{ $value }}}
            {{- end }}
            {{- end }}
          volumeMounts: {{- toYaml .Values.extraVolumeMounts | nindent 12 }}
"""


@pytest.fixture
def with_emqx(tmp_path: Path) -> Path:
    """The chart with a stand-in for EMQX's, which takes the same values; the real one has to be fetched."""
    chart = tmp_path / "emqx-im"
    shutil.copytree(CHART, chart)
    inner = chart / "charts" / "emqx"
    (inner / "templates").mkdir(parents=True)
    (inner / "Chart.yaml").write_text("apiVersion: v2\nname: emqx\nversion: 5.8.9\n")
    (inner / "values.yaml").write_text('emqxConfig: {EMQX_DASHBOARD__DEFAULT_PASSWORD: "public"}\n')
    (inner / "templates" / "statefulset.yaml").write_text(STAND_IN)
    return chart
