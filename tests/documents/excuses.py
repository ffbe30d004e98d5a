"""What the documents show and no test runs: each with its reason. Everything else runs, so a new block runs or stands here."""

from __future__ import annotations

# Lines of a shell block by how they begin. Those of potstill are still checked against the command: its options and arguments.
NOT_RUN = {
    "make": "installs, or runs every test; the Makefile is checked for the target",
    "sudo apt-get": "installs packages of the system",
    "pip install": "asks a package index",
    "pip uninstall": "would take potstill from under the tests",
    "hf ": "asks the hub",
    "potstill push": "asks the hub; tests/serve/runtime has a stand-in of it",
    "kubectl apply": "needs a cluster; the folders are built by `kubectl kustomize` in tests/export/layouts",
    "npm pack": "asks a package index",
    "potstill models fetch": "asks the hub",
    "potstill models verify": "is about a model that `fetch` brings",
    "python benchmarks/": "measures for minutes; the program and its options are checked",
    "ACCELERATE_USE_CPU=true torchrun": "trains in two processes; tests/trainer has that",
    "potstill package out/bundle out/page --for web": "needs what `npm pack` fetches; tests/export/layouts/web has it where it is at hand",
    "potstill package bundle demo --for space": "likewise",
    "potstill label task.toml texts.jsonl served": "needs a server with a model, as the next two; tests/labeler/teachers has stand-ins of each",
    "potstill label task.toml texts.jsonl ollama": "needs Ollama",
    "potstill label task.toml texts.jsonl decided": "needs a server that decides",
    "potstill train task.toml soft_labels.parquet bytes": "pretrains for minutes; tests/trainer/students has a smaller one",
    "potstill bench server": "loads a server for minutes; tests/serve/bench has that",
}

# Blocks of Python, by page and a line of them.
PYTHON_NOT_RUN = {
    ("docs/howto/deploy.md", "mlflow"): "needs MLflow, which changes other packages; tests/workflows/front_door has it where it is",
    ("docs/howto/deploy.md", "from_pretrained"): "asks the hub; tests/serve/runtime has a stand-in of it",
    ("docs/formats.md", "dataset.records"): "needs a running Argilla; tests/contract reads and writes its files",
}

# Commands that have to refuse, by page and how they begin, and with which words: no excuse, since anything else is a problem.
REFUSES = {
    # What these two pages ran before learned from a teacher that guesses, so nothing can be promised.
    ("docs/tour.md", "potstill certify"): "no switch shows an accuracy of",
    ("docs/howto/replace_an_llm_call.md", "potstill certify"): "no switch shows an accuracy of",
}
