"""The shape of the source tree: who may import whom, and what a file may hold. docs/architecture.md gives the reasons."""

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("contract", "networks", "models", "labeler", "trainer", "export", "serve", "workflows", "commands")

# Which of our packages a package may import, deferred imports included.
EDGES = {
    "contract": set(),
    "models": {"contract"},
    "labeler": {"models", "contract"},
    "networks": set(),
    "trainer": {"networks", "models", "contract"},
    "serve": {"contract"},
    "export": {"networks", "serve", "contract"},
    "workflows": {"labeler", "trainer", "export", "serve", "models", "contract"},
    "commands": {"workflows", "labeler", "trainer", "export", "serve", "models", "contract"},
}

HANDS_OVER = {
    "serve/runtime/golden.py",
    "serve/http/hosting/workers.py",
}  # catches everything in one thread, to raise it in another

HTTP = {"uvicorn", "httptools", "uvloop"}
# Which third-party packages a package may import.
LIBRARIES = {
    "contract": {"msgspec"},
    "models": set(),
    "labeler": {"numpy", "scipy", "msgspec"},
    "networks": {"torch", "transformers"},
    "trainer": {"torch", "transformers", "numpy", "scipy", "msgspec", "safetensors", "accelerate", "tokenizers"},
    "serve": {"onnxruntime", "tokenizers", "numpy", "msgspec", *HTTP},
    "export": {"torch", "transformers", "optimum", "onnx", "onnxruntime", "tokenizers", "numpy", "msgspec"},
    "workflows": {"numpy", "msgspec"},
    "commands": {"click", "rich", "numpy", "msgspec"},
}
# What single files may import on top, and why.
EXCEPTIONS = {
    "contract/files/parquet.py": {"pyarrow"},  # inside one function: JSON lines and CSV need no extra
    "contract/files/arrow_stream.py": {"pyarrow"},  # inside one function, as above: the rows of a `datasets` folder
    "contract/security/signature.py": {
        "model_signing",
        "cryptography",
    },  # inside its functions: only who signs or checks needs them
    "contract/scores/metrics.py": {"numpy"},  # the scores
    "contract/scores/prior_shift.py": {
        "numpy"
    },  # and what another share of labels does to them; nothing else of contract/ computes
    "models/fetch.py": {"huggingface_hub"},  # inside one function: finding a model needs no client
    "models/repack.py": {"llama_cpp"},  # inside one function: it is the one who quantizes
    "export/tokenizer/prune.py": {"safetensors"},  # the weights of a checkpoint, cut without building its network
    "trainer/calibration/label_sets.py": {"mapie"},  # the quantile of the label sets; who answers only compares with it
    "labeler/embeddings.py": {"torch", "transformers", "safetensors"},  # loaded only where soft labels are smoothed
    "labeler/engine/llama_engine.py": {"llama_cpp"},  # the one file of the labeler that knows llama.cpp's contexts
    "labeler/engine/llama_bindings.py": {"llama_cpp"},  # how its models are loaded
    "labeler/bench/peers.py": {"llama_cpp"},  # the peer that it is measured against is llama_cpp's own class
    "trainer/evaluation/baselines/tfidf.py": {"sklearn"},  # the baseline without a network
    "trainer/pool_check/separability.py": {"sklearn"},  # the classifier that checks a pool
    "labeler/teachers/openai_client.py": {"httpx"},  # the one file of the labeler that knows HTTP
    "trainer/report/plot_style.py": {"matplotlib"},  # the report's plots
    "trainer/report/plots.py": {"matplotlib"},
    "trainer/report/page.py": {"jinja2", "markupsafe"},  # the report's page
    "labeler/prompts/chat.py": {"jinja2"},  # the language of chat templates
    "serve/http/telemetry/otlp.py": {"opentelemetry"},  # loaded only where somebody wants spans
}
# A bundle answers over HTTP only where it is asked to: the rest of serve/ must load without an HTTP stack.
HTTP_FILES = {"serve/http/network/connection.py", "serve/http/network/server.py"}

FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "base", "core", "misc"}
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60  # without its docstring; aim for 40

FILES = sorted(path for package in PACKAGES for path in (ROOT / "potstill" / package).resolve().rglob("*.py"))


def name(path):
    return path.relative_to(ROOT).as_posix().removeprefix("potstill/")


def each_file(test):
    return pytest.mark.parametrize("path", FILES, ids=name)(test)


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def top(module):
    """Our package, or the library, that a module belongs to."""
    first, _, rest = module.partition(".")
    return rest.partition(".")[0] if first == "potstill" and rest else first


def imports(path):
    """(top-level package, line) of every import in the file, at any depth of the code."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((top(alias.name), node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno} imports relatively; write the package's name"
            yield top(node.module), node.lineno


@each_file
def test_a_file_imports_only_what_the_table_allows(path):
    package = name(path).partition("/")[0]
    ours = EDGES[package] | {package}
    libraries = LIBRARIES[package] | EXCEPTIONS.get(name(path), set())
    for module, line in imports(path):
        if module in PACKAGES:
            assert module in ours, f"{name(path)}:{line} imports {module}; {package} may import {sorted(ours)}"
        elif module not in sys.stdlib_module_names and module != "potstill":
            assert module in libraries, f"{name(path)}:{line} imports {module}; allowed there: {sorted(libraries)}"


def test_only_the_http_files_of_serve_import_an_http_stack():
    for path in sorted((ROOT / "serve").rglob("*.py")):
        found = {module for module, _ in imports(path)} & HTTP
        assert not found or name(path) in HTTP_FILES, f"{name(path)} imports {found}"


@pytest.mark.parametrize("module", ["potstill.serve.runtime.classifier", "potstill.serve.http.app"])
def test_serving_loads_no_training_library(module):
    code = (
        f"import sys; sys.path.insert(0, sys.argv[1]); import {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    )
    done = subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, timeout=120, check=True)
    assert {"torch", "transformers", "sklearn", "mapie", "pyarrow", "optimum", "click", "rich"}.isdisjoint(done.stdout.split())


@pytest.mark.parametrize(
    "path",
    [
        "models/fetch.py",
        "models/repack.py",
        "contract/files/parquet.py",
        "contract/files/arrow_stream.py",
        "contract/security/signature.py",
    ],
)
def test_a_heavy_exception_is_imported_inside_a_function(path):
    top = {
        alias.name
        for node in tree(ROOT / "potstill" / path).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert top.isdisjoint(EXCEPTIONS[path])


@each_file
def test_a_file_stays_short(path):
    n_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert n_lines <= MAX_FILE_LINES, f"{name(path)} has {n_lines} lines; split it by concept"


@each_file
def test_a_function_stays_short(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = node.body[0] if ast.get_docstring(node) is not None else None
            n_lines = node.end_lineno - node.lineno + 1 - (docstring.end_lineno - docstring.lineno + 1 if docstring else 0)
            assert n_lines <= MAX_FUNCTION_LINES, f"{name(path)}:{node.lineno} {node.name} has {n_lines} lines"


@each_file
def test_a_file_neither_prints_nor_asserts_nor_swallows(path):
    for node in ast.walk(tree(path)):
        place = f"{name(path)}:{getattr(node, 'lineno', 0)}"
        assert not isinstance(node, ast.Assert), f"{place} asserts; it vanishes under -O, raise an error"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"{place} prints; return the text, or click.echo in commands/"
        if isinstance(node, ast.ExceptHandler):
            caught = [node.type] if not isinstance(node.type, ast.Tuple) else node.type.elts
            names = {kind.id if isinstance(kind, ast.Name) else None if kind is None else "" for kind in caught}
            reraises = any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
            too_wide = names & {None, "Exception", "BaseException"}
            assert not too_wide or reraises or name(path) in HANDS_OVER, (
                f"{place} catches everything; name what is expected, or raise the rest again"
            )


@each_file
def test_a_file_is_named_after_its_concept(path):
    assert path.stem not in FORBIDDEN_NAMES and not path.stem.endswith(("_utils", "_helpers")), name(path)


@each_file
def test_every_file_and_public_function_says_what_it_is(path):
    module = tree(path)
    assert ast.get_docstring(module), f"{name(path)} has no docstring"
    functions = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inner = {id(node) for function in functions for node in ast.walk(function) if node is not function}
    for node in [*functions, *(node for node in ast.walk(module) if isinstance(node, ast.ClassDef))]:
        if id(node) not in inner and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name(path)}:{node.lineno} {node.name} has no docstring"


@pytest.mark.parametrize("package", PACKAGES)
def test_init_is_one_docstring(package):
    body = tree(ROOT / "potstill" / package / "__init__.py").body
    assert len(body) == 1 and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant), package


def test_no_other_installed_package_claims_our_name():
    claimed = set(metadata.packages_distributions().get("potstill", []))
    assert claimed <= {"potstill"}, f"{sorted(claimed)} install a module 'potstill' too; uninstall the other one"


def test_no_test_folder_is_a_package():
    assert not list((ROOT / "tests").rglob("__init__.py")), "a package below tests/ would hide the real one"
