"""Switch off what the libraries underneath would tell others. `potstill/__init__.py` calls this: every way in passes through it.

onnxruntime is the one that matters: from 1.29 on, importing it writes a lasting device id into the home folder, and ten seconds
later it looks up the host of its collector. It reads its switch once, while it is imported, so the switch has to be set before.
`CI=true` hides all of it. Seen with onnxruntime 1.31.1 on Linux, in a network namespace with a name server of our own.
"""

from __future__ import annotations

import os
import sys
import warnings

# By variable, the value that switches a library's reports off, and whose they are.
SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime; "0" and an absent one mean on
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, and through it transformers and datasets: how it is used, in every request
    "RAY_USAGE_STATS_ENABLED": "0",  # ray, when it starts a cluster
    "GRADIO_ANALYTICS_ENABLED": "False",  # gradio, when it is imported
    "DO_NOT_TRACK": "1",  # what else heeds the common name
}
SINCE = (1, 29)  # the version of onnxruntime that began to report
TOO_LATE = (
    "onnxruntime was imported before potstill, with its telemetry on: it writes a device id into the home folder and looks up the "
    "host of its collector, and that cannot be undone here; import potstill first, or set ORT_DISABLE_TELEMETRY=1 before"
)


def switch_off() -> None:
    """Set every switch in the environment of this process, which its children inherit; warn if onnxruntime is loaded already."""
    if _reports_already():
        warnings.warn(TOO_LATE, RuntimeWarning, stacklevel=3)  # at the line that imports potstill
    os.environ.update(SWITCHES)


def _reports_already() -> bool:
    """True if this process has loaded an onnxruntime that reports."""
    version = getattr(sys.modules.get("onnxruntime"), "__version__", "0.0")
    is_off = os.environ.get("ORT_DISABLE_TELEMETRY", "").lower() in ("1", "true") or bool(os.environ.get("CI"))
    return not is_off and tuple(int(part) for part in version.split(".")[:2]) >= SINCE
