"""How a failure reaches the person at the console: one line and an exit code, or the traceback of a bug."""

from __future__ import annotations

from potstill.contract.errors import MissingExtraError

OK, FAILED, INTERRUPTED, TERMINATED = 0, 1, 130, 143  # wrong usage exits with click's own 2

# Extras that bring each third-party module, the most fitting first. A test holds this table against pyproject.toml.
EXTRAS: dict[str, tuple[str, ...]] = {
    "OpenSSL": ("sign",),
    "accelerate": ("train", "export"),
    "cryptography": ("sign",),
    "httptools": ("serve",),
    "httpx": ("label",),
    "huggingface_hub": ("label", "train"),
    "jinja2": ("label", "train"),
    "llama_cpp": ("label",),
    "matplotlib": ("train",),
    "model_signing": ("sign",),
    "onnx": ("export",),
    "onnxruntime": ("serve", "export"),
    "optimum": ("export",),
    "pyarrow": ("label", "train", "export"),
    "scipy": ("label", "train"),
    "sklearn": ("train",),
    "sympy": ("export",),
    "tokenizers": ("serve", "export"),
    "torch": ("train", "export"),
    "transformers": ("train", "export"),
    "uvicorn": ("serve",),
    "uvloop": ("serve",),
}


def missing_extra(error: ModuleNotFoundError, preferred: str | None) -> MissingExtraError | None:
    """The line to print for a module that is not installed, or None when its absence is a bug of ours.

    Args:
        error: what the import raised.
        preferred: the extra of the command that was asked for; named unless only another extra brings the module.
    """
    module = (error.name or "").partition(".")[0]
    extras = EXTRAS.get(module)
    if extras is None:
        return None
    covered = preferred == "all" or preferred in extras
    return MissingExtraError(module, preferred if covered and preferred else extras[0])


def one_line(error: BaseException) -> str:
    """The message of an error for people, on one line."""
    return line(str(error))


def line(message: str) -> str:
    """A message for people, on one line that says who speaks."""
    return "potstill: " + " ".join(message.split("\n")).strip()
