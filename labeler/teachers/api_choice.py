"""Which way a server is asked: the one that was chosen, or the first of several from which label probabilities can be read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from potstill.contract.errors import UserError
from potstill.labeler.teacher import APIS, DECIDING, ServerApi
from potstill.labeler.teachers.chat_completions import CHAT, open_chat
from potstill.labeler.teachers.completions import COMPLETIONS, GENERATE, open_completions, open_ollama
from potstill.labeler.teachers.decisions import DECISIONS, SYSTEMONE, open_decisions, open_systemone
from potstill.labeler.teachers.openai_client import ServerClient
from potstill.labeler.teachers.replies import RefusedError, UnreadableError
from potstill.labeler.teachers.served_model import Served, ServedModel, refused, served_model

_OPEN: Mapping[ServerApi, tuple[str, Callable[[Served], Awaitable[ServedModel]]]] = {
    "completions": (COMPLETIONS, open_completions),
    "ollama": (GENERATE, open_ollama),
    "chat": (CHAT, open_chat),
    "decisions": (DECISIONS, open_decisions),
    "systemone": (SYSTEMONE, open_systemone),
}
# What is tried first gives the most: a document with worked examples and a forced cue; the same at Ollama; a conversation with
# worked examples; a question without any. Ways that list no tokens come after all of these.
AUTO_ORDER: tuple[ServerApi, ...] = ("completions", "ollama", "chat", "decisions", "systemone")


async def find(client: ServerClient, wanted: str | None, api: str, tell: Callable[[str], None]) -> ServedModel:
    """Find the server's model, and the way to ask it.

    Args:
        wanted: the model's id; None if the server has only one.
        api: one of :data:`potstill.labeler.teacher.APIS`; `auto` tries :data:`AUTO_ORDER`, a model that only decides in reverse.
        tell: called with a line that says which way is taken, unless it is the first one and gives lists.
    Raises:
        UserError: if nothing answers, the model is missing or ambiguous, or it cannot be asked in that way.
    """
    if api not in APIS:
        raise UserError(f"api is {api!r}; allowed: {', '.join(APIS)}")
    served = await served_model(client, wanted)
    if api == "auto":
        return await _first_that_works(served, tell)
    path, open_model = _OPEN[api]  # type: ignore[index]  # one of them, checked above
    try:
        model = await open_model(served)
    except RefusedError as error:
        if error.status in (404, 405, 501):
            address = client.address(path)
            raise UserError(f"{client.url}: cannot be asked by api {api} ({address} answers {error}); try api auto") from None
        raise refused(client, error) from None
    if not _reads_probabilities(model):
        tell(_votes_only(model))
    return model


async def _first_that_works(served: Served, tell: Callable[[str], None]) -> ServedModel:
    """The first way from which probabilities can be read, else the first that writes words at all."""
    client, failed = served.client, list[str]()
    writes: ServedModel | None = None
    unreadable: UnreadableError | None = None
    for api in reversed(AUTO_ORDER) if served.entry.only_decides else AUTO_ORDER:
        path, open_model = _OPEN[api]
        try:
            model = await open_model(served)
        except RefusedError as error:
            failed.append(f"{path}: {error}")
            continue
        except UnreadableError as error:
            unreadable = unreadable or error
            failed.append(f"{path}: another kind of answer")
            continue
        if _reads_probabilities(model):
            if api != "completions":
                tell(f"{client.url}: asked by api {api} ({_method(model)}); {'; '.join(failed) or 'it says that it only decides'}")
            return model
        failed.append(f"{path}: lists no tokens" + (f" ({model.terms.no_lists})" if model.terms.no_lists else ""))
        writes = writes or model
    if writes:
        tell(_votes_only(writes))
        return writes
    if unreadable:
        raise unreadable
    raise UserError(f"{client.url}: model {served.entry.id!r} can be asked in no known way ({'; '.join(failed)})")


def _reads_probabilities(model: ServedModel) -> bool:
    """Whether the way gives probabilities, not only written words."""
    return model.list_length > 0 or model.identity.api in DECIDING


def _method(model: ServedModel) -> str:
    """How labels are read, as the identity has it."""
    return model.identity.build.rpartition("; ")[2]


def _votes_only(model: ServedModel) -> str:
    """The line about a server that lists no tokens."""
    why = f" ({model.terms.no_lists}, when asked for log-probabilities)" if model.terms.no_lists else ""
    return (
        f"{model.client.url}: lists no likely tokens{why}, so a path is a vote for the word that was written; "
        "use --method votes, or start the server with log-probabilities"
    )
