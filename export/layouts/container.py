"""Container layouts: a Dockerfile with a compose file, and a KServe InferenceService of the same image.

The container runs as an unprivileged user, with a read-only file system and no capabilities. Every request needs a key: the server
refuses to start on an open address without one.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from potstill.contract.bundle import Manifest
from potstill.contract.system.telemetry import SWITCHES
from potstill.export.layouts.triton import model_name
from potstill.serve.http.hosting.bundle_registry import is_name

PORT = 8080
USER = 10001  # a user id without an account
BUNDLE_FOLDER, KEYS_FILE = "bundle", "keys.txt"
PYTHON_IMAGE = "python:3.11-slim"
# Files below site-packages that nothing of ours loads: onnxruntime for C programs (29 MB), which its Python module has in itself.
UNUSED = ("onnxruntime/capi/libonnxruntime.so*",)


def write_docker(bundle: Path, folder: Path, manifest: Manifest, image: str, version: str) -> None:
    """Write the bundle, a Dockerfile and a compose file into a folder; `docker compose up` also needs a file of keys."""
    shutil.copytree(bundle, folder / BUNDLE_FOLDER)
    _write(folder / "Dockerfile", dockerfile(manifest, version))
    _write(folder / "compose.yaml", compose(manifest, image))
    _write(folder / ".dockerignore", f"{KEYS_FILE}\n")


def write_kserve(bundle: Path, folder: Path, manifest: Manifest, image: str, version: str) -> None:
    """Write the files that the image is built from, and the InferenceService that runs it, into a folder."""
    write_docker(bundle, folder, manifest, image, version)
    _write(folder / "inferenceservice.yaml", inference_service(manifest, image))


def dockerfile(manifest: Manifest, version: str) -> str:
    """The Dockerfile; packages are installed in a first stage, so that pip is not part of the image."""
    served = f"/{BUNDLE_FOLDER}" if is_name(manifest.name) else f"{model_name(manifest)}=/{BUNDLE_FOLDER}"
    return f"""\
FROM {PYTHON_IMAGE} AS install
# Another source, such as a wheel that lies beside this file: --build-arg POTSTILL=...
ARG POTSTILL="potstill[serve]=={version}"
WORKDIR /install
COPY . .
RUN python -m venv --without-pip /opt/potstill && \\
    python -m pip --python /opt/potstill/bin/python install --no-cache-dir "$POTSTILL" && \\
    rm -f {" ".join(f"/opt/potstill/lib/python*/site-packages/{pattern}" for pattern in UNUSED)}

FROM {PYTHON_IMAGE}
COPY --from=install /opt/potstill /opt/potstill
COPY {BUNDLE_FOLDER} /{BUNDLE_FOLDER}
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PATH=/opt/potstill/bin:$PATH
# Whatever else is started in this image: nothing reports to anybody. potstill itself sets these too.
ENV {" ".join(f"{name}={value}" for name, value in SWITCHES.items())}
USER {USER}:{USER}
EXPOSE {PORT}
HEALTHCHECK --interval=30s --timeout=3s CMD ["python", "-c", \
"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{PORT}/readyz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["potstill", "serve", "{served}", "--host", "0.0.0.0", "--port", "{PORT}"]
"""


def compose(manifest: Manifest, image: str) -> str:
    """The compose file: published on the loopback only, read-only, with the keys mounted as a secret."""
    return f"""\
services:
  {json.dumps(model_name(manifest))}:
    build: .
    image: {json.dumps(image)}
    command: ["--keys", "/run/secrets/keys"]
    environment: {{ ORT_DISABLE_TELEMETRY: "1" }}
    secrets: [keys]
    ports: ["127.0.0.1:{PORT}:{PORT}"]
    user: "{USER}:{USER}"
    read_only: true
    tmpfs: [/tmp]
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    pids_limit: 128
    mem_limit: 512m
    restart: unless-stopped
secrets:
  keys:
    file: ./{KEYS_FILE}
"""


def inference_service(manifest: Manifest, image: str) -> str:
    """The InferenceService: Open Inference Protocol, version 2, with the keys from a Secret."""
    name = model_name(manifest)
    return f"""\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {json.dumps(name)}
spec:
  predictor:
    automountServiceAccountToken: false
    securityContext:
      runAsNonRoot: true
      runAsUser: {USER}
      runAsGroup: {USER}
      fsGroup: {USER}
    containers:
      - name: kserve-container
        image: {json.dumps(image)}
        args: ["--keys", "/secrets/keys"]
        env:
          - {{ name: ORT_DISABLE_TELEMETRY, value: "1" }}
        ports:
          - containerPort: {PORT}
            protocol: TCP
        readinessProbe:
          httpGet: {{ path: /readyz, port: {PORT} }}
        livenessProbe:
          httpGet: {{ path: /livez, port: {PORT} }}
        securityContext:
          readOnlyRootFilesystem: true
          allowPrivilegeEscalation: false
          capabilities:
            drop: ["ALL"]
        resources:
          requests: {{ cpu: "1", memory: 256Mi }}
          limits: {{ memory: 512Mi }}
        volumeMounts:
          - name: keys
            mountPath: /secrets
            readOnly: true
    volumes:
      - name: keys
        secret:
          secretName: {json.dumps(f"{name}-keys")}
          defaultMode: 0440
"""


def how_to_docker(manifest: Manifest) -> str:
    """Usage for the card: start the container with Docker. The file of keys belongs to the user that the container runs as."""
    keys = [f"(umask 077 && openssl rand -hex 32 > {KEYS_FILE})", f"sudo chown {USER} {KEYS_FILE}"]
    return "\n".join(["```sh", *keys, "docker compose up --build", "```"])


def how_to_kserve(manifest: Manifest, image: str) -> str:
    """Usage for the card: build, push and apply to Kubernetes."""
    name = model_name(manifest)
    return "\n".join(
        [
            "```sh",
            f"docker build -t {image} . && docker push {image}",
            f'kubectl create secret generic {name}-keys --from-literal=keys="$(openssl rand -hex 32)"',
            "kubectl apply -f inferenceservice.yaml",
            "```",
        ]
    )


def _write(path: Path, text: str) -> None:
    """Write a text file with Unix line ends."""
    path.write_text(text, encoding="utf-8", newline="\n")
