"""A user without a home folder, as in a container that was started with a number for its user: what works, and what is said."""

import pytest
from support.processes import plain_user

COMMAND = "import runpy, sys; sys.argv[0] = 'potstill'; runpy.run_module('potstill', run_name='__main__')"
NO_HOME = "this user has no home folder to keep models in; name a folder with POTSTILL_MODELS or XDG_CACHE_HOME"


def potstill(*arguments, **environment):
    return plain_user(COMMAND, *arguments, unknown=True, **environment)


def test_the_models_are_listed_with_what_is_here():
    code, out, error = potstill("models", "list")
    assert (code, error) == (0, "")
    rows = {line.split("\t")[0]: line.split("\t")[2] for line in out.splitlines()}
    assert rows["smollm2-135m-instruct"] == "yes" and rows["qwen3.5-4b"] == "no"


def test_what_has_to_be_kept_names_the_variable_that_says_where():
    assert potstill("models", "fetch", "qwen3.5-2b") == (1, "", f"potstill: {NO_HOME}\n")


def test_a_model_that_is_not_here_says_where_to_put_it():
    code, _, error = potstill("models", "verify", "qwen3.5-2b")
    start = "potstill: qwen3.5-2b is not on this machine; fetch it with: potstill models fetch qwen3.5-2b; or, offline, put "
    assert code == 1 and error.startswith(start)
    assert error.endswith("into a folder qwen3.5-2b in one that POTSTILL_MODELS names, as this user has no home folder\n")


def test_a_home_that_may_not_be_written_is_said_with_the_variable_that_names_another_place(tmp_path):
    tmp_path.chmod(0o555)
    expected = (
        f"{tmp_path}/.cache/potstill/models/qwen3.5-2b: cannot be written (Permission denied); "
        "name another folder for models with POTSTILL_MODELS"
    )
    assert potstill("models", "fetch", "qwen3.5-2b", HOME=str(tmp_path)) == (1, "", f"potstill: {expected}\n")


@pytest.mark.parametrize(
    ("environment", "folder"),
    [({}, "None"), ({"HOME": "/home/me"}, "/home/me/.cache/potstill"), ({"XDG_CACHE_HOME": "/cache"}, "/cache/potstill")],
)
def test_the_cache_is_in_the_home_or_where_the_variable_says_or_nowhere(environment, folder):
    code = "from potstill.contract.system.machine import user_cache_folder; print(user_cache_folder())"
    assert plain_user(code, unknown=True, **environment) == (0, f"{folder}\n", "")


@pytest.mark.slow
def test_the_embedded_teacher_is_repacked_where_the_variable_says_and_nowhere_else(tmp_path):
    code = (
        "from potstill.contract.errors import UserError\nfrom potstill.labeler.teachers.opening import packed_file\n"
        "try: print(packed_file('smollm2-135m-instruct', 'Q8_0').path.name)\nexcept UserError as error: print(error)"
    )
    assert plain_user(code, unknown=True)[1] == f"{NO_HOME}\n"
    closed = tmp_path / "home"
    closed.mkdir(mode=0o555)
    refused = plain_user(code, unknown=True, HOME=str(closed))[1]
    assert refused.startswith(f"{closed}/.cache/potstill/models/repacked/")
    assert refused.endswith(": cannot be written (Permission denied); name another folder for models with POTSTILL_MODELS\n")
    assert plain_user(code, unknown=True, POTSTILL_MODELS=str(tmp_path))[1] == "Q8_0.gguf\n"
