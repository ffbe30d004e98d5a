"""The ASGI application of the pages: lets a request in, finds its page, and replies with headers that allow nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs

from potstill.contract.errors import UserError
from potstill.review.pages.render import failure_page, static_file
from potstill.review.server import agreement, labelling, listing, steering
from potstill.review.server.desk import Desk
from potstill.review.server.door import TOKEN, Door
from potstill.review.server.replies import Handler, redirect, with_headers
from potstill.review.server.request import ReviewRequest, read_form, read_query
from potstill.serve.http.asgi import Disconnected, Message, Receive, Refused, Reply, Send, send_reply
from potstill.serve.http.telemetry.logs_and_traces import ServerLog
from potstill.serve.http.telemetry.metrics import ServerMetrics

STATIC = "/static/"
HANDLERS: dict[tuple[str, str], Handler] = {**labelling.HANDLERS, **listing.HANDLERS, **agreement.HANDLERS, **steering.HANDLERS}
PATHS = {path for _, path in HANDLERS}


@dataclass(frozen=True)
class ReviewInstruments:
    """Counts that nobody reads, as the server wants them, and a log without texts."""

    metrics: ServerMetrics = field(default_factory=ServerMetrics)
    log: ServerLog = field(default_factory=ServerLog)


class ReviewApplication:
    """The pages of one label store."""

    def __init__(self, desk: Desk, door: Door, tell_addresses: Callable[[], None] = lambda: None) -> None:
        """Args: tell_addresses, called on SIGHUP: prints an address with a new token for everybody."""
        self.desk, self.door, self._tell_addresses = desk, door, tell_addresses
        self.dependencies = ReviewInstruments()
        self.draining = False
        self.has_one_client: Callable[[], bool] = lambda: False

    def reload(self) -> None:
        """Print new addresses."""
        self._tell_addresses()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one request, or the lifespan of the server."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await self._exchange(scope, receive, send)

    async def _exchange(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            reply = await self._reply(scope, receive)
        except Refused as refused:
            reply = replace(failure_page(refused.status, refused.message), headers=refused.headers)
        except UserError as error:  # a full disk, a store that is gone: the person must know that nothing was stored
            reply = failure_page(500, str(error))
        except Disconnected:
            return
        except Exception:
            self.dependencies.log.bug(scope["path"] if scope["path"] in PATHS else "unknown path")
            await send_reply(send, with_headers(failure_page(500, "internal error; see the terminal")), head=False)
            raise
        if self.draining:
            reply.headers.append((b"connection", b"close"))
        await send_reply(send, with_headers(reply), head=scope["method"] == "HEAD")

    async def _reply(self, scope: Message, receive: Receive) -> Reply:
        """The reply to a request; raises Refused, UserError or Disconnected."""
        self.door.check(scope)
        method, path = "GET" if scope["method"] == "HEAD" else scope["method"], scope["path"]
        if path == "/" and method == "GET":
            token = parse_qs(scope["query_string"].decode("latin-1")).get(TOKEN)
            if token:
                return redirect("/label", self.door.enter(scope, token[-1]))
        if path.startswith(STATIC) and method == "GET":  # the same for everybody
            return static_file(path.removeprefix(STATIC))
        person = self.door.person(scope)
        if path == "/" and method == "GET":
            return redirect("/label")
        handler = HANDLERS.get((method, path))
        if handler is None:
            allowed = [known for known, place in HANDLERS if place == path]
            if allowed:
                raise Refused(405, f"this page takes {', '.join(allowed)}", [(b"allow", ", ".join(allowed).encode())])
            raise Refused(404, "there is no such page")
        form = await read_form(scope, receive) if method == "POST" else {}
        query_string = scope["query_string"].decode("latin-1")
        request = ReviewRequest(person, method, path, read_query(scope), query_string, form)
        self.desk.refresh()
        return handler(self.desk, request)


async def _live(receive: Receive, send: Send) -> None:
    """Say that the application is ready, and that it has ended."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
