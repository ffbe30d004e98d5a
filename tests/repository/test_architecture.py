"""The shape of the source tree: who may import whom, and what a file may hold. docs/architecture.md gives the reasons."""

import ast
import re
import subprocess
import sys
from functools import cache
from importlib import metadata

import pytest
from structure import (
    ROOT,
    broad_excepts,
    cycles,
    function_lines,
    measure,
    module_name,
    n_lines,
    rooms,
    sources,
)

# Which of our packages a package imports, deferred imports included: exactly these.
EDGES = {
    "contract": set(),
    "networks": set(),
    "models": {"contract"},
    "labeler": {"models", "contract"},
    "trainer": {"networks", "models", "contract"},
    "serve": {"contract"},
    "export": {"networks", "serve", "contract"},
    "review": {"labeler", "serve", "contract"},
    "workflows": {"labeler", "trainer", "export", "review", "serve", "models", "contract"},
    "commands": {"workflows", "labeler", "trainer", "export", "review", "serve", "models", "contract"},
}

# The order of the rooms of a package, and of the files beside them: each imports only from those before it.
ORDER = {
    "contract": "errors files system scores security task soft_label questions promises interchange texts "
    "fallback checkpoint bundle project",
    "networks": "static charformer t5 register",
    "models": "gguf memory devices encoder catalog fits repack fetch verify",
    "labeler": "config teacher candidates encoder_at_hand embeddings narrowing prompts engine store aggregation teachers run tuning "
    "weak_supervision bench",
    "trainer": "config data students calibration training joint evaluation report pool_check run calibrate_on_gold sweep",
    "export": "config graph quantization tokenizer gate bundle report run layouts bench",
    "serve": "config runtime offline bulk http bench run",
    "serve/http": "config asgi hosting telemetry teacher protocols application network",
    "review": "people corpus queue steering pages server",
    "workflows": "fallback serving example_files teacher labels asking people labelling evaluation overview tuning planning pipeline results doctor",
    "commands": "console options labelling training bundles bench models doctor completion status pipeline main reference",
}

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
    "review": {"numpy", "msgspec"},
    "workflows": {"numpy", "msgspec"},
    "commands": {"click", "rich", "numpy", "msgspec"},
}
# What single files may import on top, and why.
EXCEPTIONS = {
    "contract/files/arrow.py": {"pyarrow"},  # inside its functions: JSON lines and CSV need no extra
    "contract/files/spreadsheet.py": {"openpyxl"},  # inside its functions, too: only spreadsheets need it
    "contract/security/signature.py": {"model_signing", "cryptography"},  # inside functions: only who signs or checks needs them
    "contract/scores/metrics.py": {"numpy"},  # the scores
    "contract/scores/prior_shift.py": {"numpy"},  # what other label shares do to them
    "contract/questions/kind_scores.py": {"numpy"},  # the scores of each kind of question
    "contract/questions/probabilities.py": {"numpy"},  # what trainer and export read from a student's logits alike
    "contract/scores/switches.py": {"numpy"},  # and which answers can be promised; nothing else of contract/ computes
    "contract/system/hub.py": {"huggingface_hub"},  # inside one function: only who asks the hub needs its client
    "models/devices.py": {"llama_cpp"},  # inside one function: what it can compute on
    "models/repack.py": {"llama_cpp"},  # inside one function: llama.cpp quantizes
    "export/tokenizer/prune.py": {"safetensors"},  # the weights of a checkpoint, cut without building its network
    "labeler/embeddings.py": {"torch", "transformers", "safetensors"},  # loaded only where soft labels are smoothed
    "labeler/engine/library.py": {"llama_cpp"},  # inside one function: a teacher behind a server needs none
    "labeler/bench/peers.py": {"llama_cpp"},  # the peer that the engine is measured against is llama_cpp's own class
    "labeler/prompts/sandbox.py": {"jinja2"},  # the language of chat templates; inside functions, in a process of its own
    "labeler/teachers/openai_client.py": {"httpx"},  # the one file of the labeler that speaks HTTP
    "labeler/tuning/wordings.py": {"tomlkit"},  # a task with another guideline keeps its comments
    "labeler/weak_supervision/label_models/snorkel.py": {
        "snorkel"
    },  # inside its function: only who wants that label model needs it
    "trainer/calibration/label_sets.py": {"mapie"},  # the quantile of the label sets; the runtime only compares with it
    "trainer/evaluation/baselines/tfidf.py": {"sklearn"},  # the baseline without a network
    "trainer/pool_check/separability.py": {"sklearn"},  # the classifier that checks a pool
    "trainer/report/text_map.py": {"sklearn"},  # principal components and t-SNE
    "trainer/report/plot_style.py": {"matplotlib"},  # the report's plots
    "trainer/report/plots.py": {"matplotlib"},
    "trainer/report/budget_plot.py": {"matplotlib"},
    "trainer/report/page.py": {"jinja2", "markupsafe"},  # the report's page
    "trainer/report/questions.py": {"jinja2", "markupsafe"},  # the page of several questions
    "review/pages/render.py": {"jinja2"},  # the pages on which people label
    "review/pages/text_marks.py": {"markupsafe"},  # and the texts on them
    "review/steering/task_file.py": {"tomlkit"},  # a changed task keeps its comments
    "contract/system/cluster.py": {"ray"},  # loaded only with --engine ray
    "serve/bulk/units.py": {"fsspec", "pyarrow"},  # likewise: texts and answers at any address
    "serve/http/telemetry/logs_and_traces.py": {"opentelemetry"},  # loaded only with --otlp
    "commands/reference/python_names.py": {"griffe"},  # reads the source text; only `make docs` runs it
    "mlflow.py": {"mlflow", "pandas"},  # the model, likewise
    "commands/console/notebook.py": {"IPython"},  # inside a function: only a notebook's kernel, which has it, runs it
    "sklearn.py": {"numpy", "sklearn"},  # the estimator, which is loaded only by its own name
}
INSIDE_FUNCTIONS = [
    path
    for path, libraries in EXCEPTIONS.items()
    if libraries & {"pyarrow", "openpyxl", "model_signing", "huggingface_hub", "snorkel"} and "fsspec" not in libraries
]
INSIDE_FUNCTIONS += ["models/devices.py", "models/repack.py", "labeler/engine/library.py"]
# A bundle answers over HTTP only where it is asked to: the rest of serve/ must load without an HTTP stack.
HTTP_FILES = {"serve/http/network/connection.py", "serve/http/network/server.py"}
CATCH_ALL = {"serve/runtime/golden.py", "serve/http/hosting/workers.py"}  # catch everything in one thread, raise it in another

FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "base", "core", "misc"}
MAX_ENTRIES = 16  # of a folder; aim for a dozen
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60  # without its docstring; aim for 40

FILES = sources()


def name(path):
    """The place of a file below potstill/, where each is found under one name."""
    return path.relative_to(ROOT).as_posix().removeprefix("potstill/")


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@cache  # many rules ask for them
def imports(path):
    """(module, line) of every import in the file at any depth, and of every module of ours that a string names, as `-m` and lazy tables do."""
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno} imports relatively; write the package's name"
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
        elif isinstance(node, ast.Constant) and re.fullmatch(r"potstill(\.\w+)+(:\w+)?", str(node.value)):
            found.append((node.value.partition(":")[0], node.lineno))
    return found


def our_imports(path):
    """(names below `potstill`, line) of the file's imports of ours: `("labeler", "engine", "tokens", ...)`."""
    for module, line in imports(path):
        if module.startswith("potstill.") and module.count("."):
            names = tuple(module.split(".")[1:])
            if names[0] in EDGES:
                yield names, line


def packages(path):
    return name(path).split("/")[0]


def test_every_file_is_in_a_package_of_the_table():
    loose = {path.relative_to(ROOT).as_posix() for path in FILES if packages(path) not in EDGES}
    # potstill.sklearn and potstill.mlflow are further front doors: those libraries are loaded only by whoever asks for them
    doors = ("__init__", "__main__", "api", "mlflow", "sklearn")
    assert loose == {f"potstill/{name}.py" for name in doors}


def test_packages_import_each_other_exactly_as_the_table_says():
    found = {package: set() for package in EDGES}
    where = {}
    for path in FILES:
        for names, line in our_imports(path):
            package = packages(path)
            if package in EDGES and names[0] != package:
                found[package].add(names[0])
                where.setdefault((package, names[0]), f"{name(path)}:{line}")
    for package, allowed in EDGES.items():
        for new in sorted(found[package] - allowed):
            pytest.fail(f"{where[package, new]} imports {new}; {package} may import {sorted(allowed)}")
        assert not allowed - found[package], f"{package} imports nothing of {allowed - found[package]} any more; shorten the table"


@pytest.mark.parametrize("package", ORDER)
def test_a_room_imports_only_from_those_before_it(package):
    order, level = ORDER[package].split(), package.count("/") + 1
    folder = ROOT / "potstill" / package
    entries = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()} - {"__init__"}
    assert entries == set(order), f"{package}: the table and the folder differ by {entries ^ set(order)}"
    for path in FILES:
        parts = tuple(name(path).removesuffix(".py").split("/"))
        if not name(path).startswith(package + "/") or parts[level] == "__init__":
            continue
        for names, line in our_imports(path):
            if names[:level] == tuple(package.split("/")) and len(names) > level and names[level] != parts[level]:
                before = order[: order.index(parts[level])]
                assert names[level] in before, (
                    f"{name(path)}:{line} imports {names[level]}, which does not come before {parts[level]}"
                )


def test_no_two_modules_import_each_other():
    assert cycles() == []


def test_a_file_imports_only_the_libraries_of_the_table():
    for path in FILES:
        allowed = LIBRARIES.get(packages(path), set()) | EXCEPTIONS.get(name(path), set())
        for module, line in imports(path):
            library = module.partition(".")[0]
            if library != "potstill" and library not in sys.stdlib_module_names:
                assert library in allowed, f"{name(path)}:{line} imports {library}; allowed there: {sorted(allowed)}"


def test_the_table_of_exceptions_names_what_is_there():
    for place, libraries in EXCEPTIONS.items():
        path = ROOT / "potstill" / place
        assert path.is_file(), f"{place} is gone"
        assert libraries <= {module.partition(".")[0] for module, _ in imports(path)}, f"{place} no longer imports {libraries}"


def test_only_the_http_files_of_serve_import_an_http_stack():
    for path in FILES:
        found = {module.partition(".")[0] for module, _ in imports(path)} & HTTP
        assert not found or name(path) in HTTP_FILES, f"{name(path)} imports {found}"


def test_whoever_imports_onnxruntime_has_switched_its_telemetry_off():
    """In the package the first import of all does it; a program or a test beside it must import the package first, or do it itself."""
    first = next(
        node
        for node in tree(ROOT / "potstill" / "__init__.py").body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    )
    assert ast.unparse(first) == "telemetry.switch_off()"
    for path in [
        *(ROOT / "benchmarks").rglob("*.py"),
        *(ROOT / "examples").rglob("*.py"),
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("*.md"),
    ]:
        text = path.read_text(encoding="utf-8")
        for found in re.finditer(r"^ *(?:import|from) (?:.*, )?(?:onnxruntime|optimum)", text, re.M):
            before = text[: found.start()]
            switched = '["ORT_DISABLE_TELEMETRY"] = "1"' in before or re.search(r"^ *(import|from) potstill", before, re.M)
            assert switched, f"{path.relative_to(ROOT)}: {found[0]!r} before the switch is set"


def test_nothing_is_imported_under_a_name_at_the_top():
    """`import labeler` works in a checkout, as the folder lies there, and would load every module twice."""
    tops = {path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()} - {"potstill"} | set(EDGES)
    for path in [*FILES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        for module, line in imports(path):
            assert module.partition(".")[0] not in tops, f"{path.relative_to(ROOT)}:{line}: write potstill.{module}"


@pytest.mark.parametrize("module", ["potstill.serve.runtime.classifier", "potstill.serve.http.application.asgi_app"])
def test_serving_loads_no_training_library(module):
    code = f"import sys; sys.path.insert(0, sys.argv[1]); import {module}; print(*{{n.partition('.')[0] for n in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, timeout=120, check=True)
    assert {"torch", "transformers", "sklearn", "mapie", "pyarrow", "optimum", "click", "rich"}.isdisjoint(done.stdout.split())


def test_a_heavy_exception_is_imported_inside_a_function():
    for place in INSIDE_FUNCTIONS:
        body = tree(ROOT / "potstill" / place).body
        top = {alias.name for node in body if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names}
        assert top.isdisjoint(EXCEPTIONS[place]), place


def test_a_folder_shows_few_entries():
    for folder, n in rooms():
        assert n <= MAX_ENTRIES, f"{folder.relative_to(ROOT)}/ has {n} entries; make a room of those that belong together"


def test_a_file_stays_short():
    for path in [*FILES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        assert n_lines(path) <= MAX_FILE_LINES, f"{path.relative_to(ROOT)} has {n_lines(path)} lines; split it by subject"


def test_a_function_stays_short():
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                n = function_lines(node)
                assert n <= MAX_FUNCTION_LINES, f"{name(path)}:{node.lineno} {node.name} has {n} lines"


def test_the_figures_of_the_tree_keep_their_promises():
    figures = {figure: text for figure, (text, _) in measure().items()}
    share = {figure: float(re.search(r"\(([\d.]+)%\)", text)[1]) for figure, text in figures.items() if "%" in text}
    assert share["files under 60 lines"] <= 15
    assert share["docstrings with shapes, units and errors"] >= 90


def test_a_file_neither_prints_nor_asserts_nor_swallows():
    for path in FILES:
        module = tree(path)
        for node in ast.walk(module):
            place = f"{name(path)}:{getattr(node, 'lineno', 0)}"
            assert not isinstance(node, ast.Assert), f"{place} asserts; it vanishes under -O, raise an error"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", f"{place} prints; return the text, or click.echo in commands/"
        if name(path) not in CATCH_ALL:
            lines = list(broad_excepts(module))
            assert not lines, f"{name(path)}:{lines} catches everything; name what is expected, or raise the rest again"


def test_a_file_is_named_after_its_subject():
    for path in FILES:
        assert path.stem not in FORBIDDEN_NAMES and not path.stem.endswith(("_utils", "_helpers")), name(path)


def test_every_file_and_public_function_says_what_it_is():
    for path in FILES:
        module = tree(path)
        assert ast.get_docstring(module), f"{name(path)} has no docstring"
        functions = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        inner = {id(node) for function in functions for node in ast.walk(function) if node is not function}
        for node in [*functions, *(node for node in ast.walk(module) if isinstance(node, ast.ClassDef))]:
            if id(node) not in inner and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{name(path)}:{node.lineno} {node.name} has no docstring"


def test_init_is_one_docstring():
    for path in FILES:
        if path.name == "__init__.py" and module_name(path) != "potstill":  # the front door
            body = tree(path).body
            assert len(body) == 1 and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant), name(path)


def test_every_folder_with_files_is_a_package_that_says_what_it_is_for():
    for folder in {path.parent for path in FILES}:
        assert (folder / "__init__.py").is_file(), f"{folder.relative_to(ROOT)}/ has no __init__.py"


def test_no_other_installed_package_claims_our_name():
    claimed = set(metadata.packages_distributions().get("potstill", []))
    assert claimed <= {"potstill"}, f"{sorted(claimed)} install a module 'potstill' too; uninstall the other one"


def test_no_test_folder_is_a_package():
    assert not list((ROOT / "tests").rglob("__init__.py")), "a package below tests/ would hide the real one"


def test_a_public_type_has_its_name_for_itself():
    owners = {}
    for path in FILES:
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                owners.setdefault(node.name, []).append(name(path))
    shared = {kind: places for kind, places in owners.items() if len(places) > 1}
    assert not shared, f"one word, one thing: {shared}"
