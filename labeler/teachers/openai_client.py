"""The HTTP client for an OpenAI-compatible server: bounded concurrency, timeouts, retries, API keys.

Requests run on an event loop in a separate thread, so they continue while the caller stores what has arrived, and an interrupt in
the caller's thread can cancel all of them at once.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import random
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from potstill.contract.errors import UserError
from potstill.labeler.config import ServerConfig
from potstill.labeler.teachers.replies import RefusedError, words_of

KEYS = ("POTSTILL_API_KEY", "OPENAI_API_KEY")
GO_ON = "paths drawn so far are kept, and the same command goes on from there"
_TRY_AGAIN = frozenset({408, 409, 425, 429})  # and everything from 500 up, except what will never be there
_NEVER = frozenset({501, 505})
_N_QUICK = 2  # tries of a request that is only a question whether the server can do something
T = TypeVar("T")


@dataclass(frozen=True)
class ServerReply:
    """The reply to a successful request."""

    body: bytes
    software: str  # the `Server` header; may be empty


@dataclass(frozen=True)
class _TransientFailure:
    """A try that failed for a reason that may pass."""

    reason: str
    wait_s: float | None = None  # as the server requests
    refusal: RefusedError | None = None  # where the server failed, which may be due to what was asked


class ServerClient:
    """Connections to one server. Open until :meth:`close`."""

    def __init__(self, url: str, config: ServerConfig) -> None:
        """Start the thread; nothing is sent yet.

        Raises:
            UserError: if the address or the key in the environment is malformed.
        """
        self.url, self.config = base_url(url), config
        key = api_key(self.url)
        self._key = key
        self._loop = asyncio.new_event_loop()
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(config.timeout_s, connect=config.connect_timeout_s, pool=None),
            limits=httpx.Limits(max_connections=config.concurrency),
            follow_redirects=False,  # a key must not travel to another host
            trust_env=not is_loopback(self.url),  # proxies of the environment are for other machines
        )
        self._thread = threading.Thread(target=self._loop.run_forever, name="potstill-server-client", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the client's loop; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the client's loop and return its result; an exception in the caller's thread cancels it."""
        future = self.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel all requests, close the connections, end the thread; safe to call twice."""
        if self._loop.is_closed():
            return
        self.submit(self._shut()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def get(self, path: str, *, quick: bool = False) -> ServerReply:
        """GET a path below the base address; raises as :meth:`post`, but at once if nothing listens there."""
        return await self._with_retries("GET", path, None, quick=quick)

    async def post(self, path: str, body: Mapping[str, Any], *, quick: bool = False) -> ServerReply:
        """POST a JSON body to a path below the base address, with retries after transient failures.

        Args:
            path: Ollama's own paths (`/api/...`) are taken below the host.
            quick: whether to give up early where the server fails (500, a broken connection), as some do that lack something.
        Raises:
            RefusedError: if the server rejects this request, or fails and ``quick`` is set.
            UserError: if the server wants a key, redirects, or still fails after the last try.
        """
        return await self._with_retries("POST", path, msgspec.json.encode(body), quick=quick)

    async def moved_below(self, below: str, path: str) -> bool:
        """Take the address below this one if it answers GET ``path`` there; returns whether it does."""
        before, self.url = self.url, f"{self.url}{below}"
        try:
            await self.get(path)
        except RefusedError:
            self.url = before
            return False
        return True

    def address(self, path: str) -> str:
        """The address of a path; Ollama's own API stands beside `/v1`, not below it."""
        return f"{self.url.removesuffix('/v1')}{path}" if path.startswith("/api/") else f"{self.url}{path}"

    async def _with_retries(self, method: str, path: str, content: bytes | None, *, quick: bool = False) -> ServerReply:
        """Send a request until it succeeds. Waits are doubled and jittered, so that several clients do not retry together."""
        config, n_failed = self.config, 0
        while True:
            result = await self._try(method, path, content)
            if isinstance(result, ServerReply):
                return result
            n_failed += 1
            if quick and result.refusal and n_failed >= _N_QUICK:
                raise result.refusal
            if n_failed >= config.n_tries:
                raise UserError(f"{self.url}: {method} {path} failed {n_failed} times, the last time: {result.reason}; {GO_ON}")
            backoff = min(config.longest_wait_s, config.first_wait_s * 2 ** (n_failed - 1)) * random.uniform(0.5, 1.0)
            await asyncio.sleep(backoff if result.wait_s is None else min(config.longest_wait_s, result.wait_s))

    async def _try(self, method: str, path: str, content: bytes | None) -> ServerReply | _TransientFailure:
        """Send a request once."""
        headers = {"Content-Type": "application/json"} if content is not None else {}
        try:
            response = await self._http.request(method, self.address(path), content=content, headers=headers)
        except httpx.TimeoutException as error:
            kind = "connection" if isinstance(error, httpx.ConnectTimeout) else "answer"
            seconds = self.config.connect_timeout_s if kind == "connection" else self.config.timeout_s
            return _TransientFailure(f"no {kind} within {seconds:g} s")
        except httpx.ConnectError as error:
            if method == "GET":  # the first request of all
                raise UserError(
                    f"{self.url}: no server answers there ({error}); start one, for example: llama-server -m MODEL.gguf --port 8000"
                ) from None
            return _TransientFailure(f"no connection ({error})")
        except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.DecodingError, httpx.ProxyError) as error:
            reason = f"the connection broke ({error or type(error).__name__})"
            return _TransientFailure(reason, refusal=RefusedError(0, reason.encode()))
        return self._classified(response, path)

    def _classified(self, response: httpx.Response, path: str) -> ServerReply | _TransientFailure:
        """The reply, or a transient failure; raises for a permanent one."""
        status = response.status_code
        if 200 <= status < 300:
            return ServerReply(response.content, response.headers.get("Server", ""))
        body = response.content.replace(self._key.encode(), b"***") if self._key else response.content
        if status in (401, 403):
            found = "refuses the key it was given" if self._key else "asks for a key"
            raise UserError(f"{self.url}: {found} ({status}: {words_of(body)}); set it in the environment as {' or '.join(KEYS)}")
        if 300 <= status < 400:
            target = response.headers.get("Location", "nowhere")
            raise UserError(f"{self.url}: redirects {path} to {target}; redirects are not followed, so give the final address")
        # llama_cpp.server started without log-probabilities answers 500 to a request for them; waiting changes nothing
        if status in _TRY_AGAIN or (status >= 500 and status not in _NEVER and b"logprobs" not in body):
            refusal = RefusedError(status, body) if status == 500 else None
            return _TransientFailure(f"{status}: {words_of(body)}", _retry_after_s(response.headers.get("Retry-After")), refusal)
        raise RefusedError(status, body)

    async def _shut(self) -> None:
        """Cancel everything else on the loop and close the connections."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._http.aclose()


def base_url(url: str) -> str:
    """The address without a trailing slash.

    Raises:
        UserError: if it is not an HTTP address, or contains credentials, a query or a fragment.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        raise UserError(f"{url}: is not the address of a server; an address looks like http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UserError(
            f"{parts.scheme}://{parts.hostname}: the address must consist of host, port and path only; "
            f"a key belongs in the environment, as {' or '.join(KEYS)}"
        )
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether the address is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def api_key(url: str) -> str:
    """The key for that server from the environment; empty if there is none.

    POTSTILL_API_KEY is meant for this server. OPENAI_API_KEY may be meant for another one, so it is never sent unencrypted: only
    over https, or within this machine.

    Raises:
        UserError: if the key holds characters that an HTTP header cannot.
    """
    names = KEYS if url.startswith("https:") or is_loopback(url) else KEYS[:1]
    for name in names:
        key = os.environ.get(name, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise UserError(f"the environment variable {name} holds characters that no key has; set it again")
        if key:
            return key
    return ""


def _retry_after_s(value: str | None) -> float | None:
    """Seconds to wait by a Retry-After header, which holds seconds or a date; None if it is absent or malformed."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
