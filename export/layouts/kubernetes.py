"""Kubernetes without KServe: a Kustomize base with probes, and overlays with metrics and with scaling by the queue.

base/                  Deployment and Service
overlays/monitored/    and a ServiceMonitor of the Prometheus operator, and a Grafana dashboard as a ConfigMap
overlays/autoscaled/   and a HorizontalPodAutoscaler by `potstill_wait_seconds`; adapter-rules.yaml tells prometheus-adapter of it
"""

from __future__ import annotations

import json
from pathlib import Path

from potstill.contract.bundle import Manifest
from potstill.contract.system.telemetry import SWITCHES
from potstill.export.layouts.container import PORT, USER, write_docker
from potstill.export.layouts.dashboard import dashboard
from potstill.export.layouts.triton import model_name
from potstill.serve.http.config import Limits

WAIT_METRIC = "potstill_wait_seconds"  # a pod's estimate for a text that comes now
WAIT_MS = 20  # mean over the pods, above which there are to be more
CPU_PERCENT = 80  # of the CPU asked for, likewise; it counts where no adapter serves the metric
MIN_PODS, MAX_PODS = 2, 10
DRAIN_S = 5  # until every proxy of the cluster knows that a pod is leaving
DASHBOARD_FILE = "dashboard.json"
# Where the autoscaler chooses their number, applying the folder again must not set it back.
_WITHOUT_REPLICAS = """\
patches:
  - target: { kind: Deployment }
    patch: |-
      - op: remove
        path: /spec/replicas
"""


def write_kubernetes(bundle: Path, folder: Path, manifest: Manifest, image: str, version: str) -> None:
    """Write the files that the image is built from, and the Kustomize folders that run it, into a folder."""
    write_docker(bundle, folder, manifest, image, version)
    name = model_name(manifest)
    files = {
        "base/kustomization.yaml": _kustomization(["deployment.yaml", "service.yaml"], labels=name),
        "base/deployment.yaml": deployment(name, image),
        "base/service.yaml": service(name),
        "overlays/monitored/kustomization.yaml": _kustomization(["../../base", "servicemonitor.yaml"]) + _dashboards(name),
        "overlays/monitored/servicemonitor.yaml": service_monitor(name),
        f"overlays/monitored/{DASHBOARD_FILE}": dashboard(name).decode(),
        "overlays/autoscaled/kustomization.yaml": _kustomization(["../monitored", "autoscaler.yaml"]) + _WITHOUT_REPLICAS,
        "overlays/autoscaled/autoscaler.yaml": autoscaler(name),
        "overlays/autoscaled/adapter-rules.yaml": adapter_rules(),
    }
    for place, text in files.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


def _kustomization(resources: list[str], labels: str | None = None) -> str:
    """The index of a folder. Args: labels, the name that everything in it is labelled with, and selected by."""
    lines = [
        "apiVersion: kustomize.config.k8s.io/v1beta1",
        "kind: Kustomization",
        "resources:",
        *(f"  - {one}" for one in resources),
    ]
    if labels is not None:
        lines += ["labels:", f'  - pairs: {{ app.kubernetes.io/name: "{labels}" }}', "    includeSelectors: true"]
    return "\n".join(lines) + "\n"


def _dashboards(name: str) -> str:
    """The part of an index that makes a ConfigMap of the dashboard, which Grafana's sidecar looks for by its label."""
    return f"""\
configMapGenerator:
  - name: {name}-dashboard
    files: [{DASHBOARD_FILE}]
    options:
      disableNameSuffixHash: true
      labels: {{ grafana_dashboard: "1" }}
"""


def deployment(name: str, image: str) -> str:
    """The Deployment: nobody's user, nothing to write, and no pod that gets requests before it is ready or while it leaves."""
    environment = "".join(f"            - {{ name: {key}, value: {json.dumps(value)} }}\n" for key, value in SWITCHES.items())
    limits = Limits()
    return f"""\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: "{name}"
spec:
  replicas: {MIN_PODS}
  template:
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: {DRAIN_S + round(limits.lead_s + limits.grace_s) + 5}
      securityContext:
        runAsNonRoot: true
        runAsUser: {USER}
        runAsGroup: {USER}
        fsGroup: {USER}
        seccompProfile: {{ type: RuntimeDefault }}
      containers:
        - name: "{name}"
          image: {json.dumps(image)}
          args: ["--keys", "/secrets/keys"]
          env:
{environment}\
          ports:
            - {{ name: http, containerPort: {PORT} }}
          startupProbe:
            httpGet: {{ path: /livez, port: http }}
            periodSeconds: 1
            failureThreshold: 60
          readinessProbe:
            httpGet: {{ path: /readyz, port: http }}
            periodSeconds: 2
          livenessProbe:
            httpGet: {{ path: /livez, port: http }}
            periodSeconds: 10
          lifecycle:
            preStop:
              exec: {{ command: ["sleep", "{DRAIN_S}"] }}
          securityContext:
            readOnlyRootFilesystem: true
            allowPrivilegeEscalation: false
            capabilities: {{ drop: ["ALL"] }}
          resources:
            requests: {{ cpu: "1", memory: 256Mi }}
            limits: {{ memory: 512Mi }}
          volumeMounts:
            - {{ name: keys, mountPath: /secrets, readOnly: true }}
            - {{ name: tmp, mountPath: /tmp }}
      volumes:
        - name: keys
          secret:
            secretName: {keys_secret(name)}
            defaultMode: 0440
            items: [{{ key: keys, path: keys }}]
        - name: tmp
          emptyDir: {{ sizeLimit: 16Mi }}
"""


def service(name: str) -> str:
    """The Service; Prometheus gives its name to the metrics as `job`."""
    return f"""\
apiVersion: v1
kind: Service
metadata:
  name: "{name}"
spec:
  ports:
    - {{ name: http, port: 80, targetPort: http }}
"""


def service_monitor(name: str) -> str:
    """The ServiceMonitor; like every client it has a key."""
    return f"""\
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: "{name}"
spec:
  selector:
    matchLabels: {{ app.kubernetes.io/name: "{name}" }}
  endpoints:
    - port: http
      path: /metrics
      interval: 15s
      authorization:
        credentials: {{ name: {keys_secret(name)}, key: metrics }}
"""


def autoscaler(name: str) -> str:
    """The HorizontalPodAutoscaler: up at once when texts wait, down after five quiet minutes."""
    return f"""\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: "{name}"
spec:
  scaleTargetRef: {{ apiVersion: apps/v1, kind: Deployment, name: "{name}" }}
  minReplicas: {MIN_PODS}
  maxReplicas: {MAX_PODS}
  metrics:
    - type: Pods
      pods:
        metric: {{ name: {WAIT_METRIC} }}
        target: {{ type: AverageValue, averageValue: {WAIT_MS}m }}
    - type: Resource
      resource:
        name: cpu
        target: {{ type: Utilization, averageUtilization: {CPU_PERCENT} }}
  behavior:
    scaleUp: {{ stabilizationWindowSeconds: 0 }}
    scaleDown: {{ stabilizationWindowSeconds: 300 }}
"""


def adapter_rules() -> str:
    """The rule by which prometheus-adapter serves the wait of each pod; it belongs into the adapter's own configuration."""
    return f"""\
rules:
  - seriesQuery: '{WAIT_METRIC}{{namespace!="",pod!=""}}'
    resources:
      overrides:
        namespace: {{ resource: namespace }}
        pod: {{ resource: pod }}
    name: {{ as: {WAIT_METRIC} }}
    metricsQuery: 'max(max_over_time(<<.Series>>{{<<.LabelMatchers>>}}[1m])) by (<<.GroupBy>>)'
"""


def keys_secret(name: str) -> str:
    """The name of the Secret with the keys that clients show, and the one that Prometheus does."""
    return f"{name}-keys"


def how_to(manifest: Manifest, image: str) -> str:
    """Usage for the card: build, push, make the keys and apply one of the three folders."""
    name = model_name(manifest)
    return "\n".join(
        [
            "```sh",
            f"docker build -t {image} . && docker push {image}",
            "key=$(openssl rand -hex 32)",
            f'kubectl create secret generic {keys_secret(name)} --from-literal=keys="$key" --from-literal=metrics="$key"',
            "kubectl apply -k base                  # or overlays/monitored, or overlays/autoscaled",
            "```",
            "",
            "`overlays/monitored` needs the Prometheus operator; Grafana's sidecar finds the dashboard by its label.",
            "`overlays/autoscaled` needs prometheus-adapter with the rule in `adapter-rules.yaml`; without it, CPU alone decides.",
        ]
    )
