"""What every test may use: the two real models, and a process that neither asks the network nor takes every core."""

import os

# Before any library reads them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "2")

import sys
from pathlib import Path

import pytest

from contract.errors import UserError
from models.catalog import find_backbone, find_teacher

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The real 135M teacher, a GGUF file."""
    try:
        return find_teacher("smollm2-135m-instruct").path
    except UserError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The real backbone, an encoder folder."""
    try:
        return find_backbone("all-minilm-l6-v2").path
    except UserError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session")
def tiny_models(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random model of a megabyte or two for each kind of memory that llama.cpp has, by the names of `tiny_gguf.KINDS`."""
    from tiny_gguf import write_tiny_models  # a session without such tests need not read the vocabulary

    return write_tiny_models(smollm2, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def console() -> list[str]:
    """The command line of the real console: `subprocess.run([*console, "task", ...])`, from any folder."""
    start = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); from commands.main import main; main()"
    return [sys.executable, "-c", start]


@pytest.fixture(autouse=True)
def two_torch_threads():
    """Torch keeps to two threads, where a test has imported it."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(2)
