"""Which hosts a request may name and which pages may read the replies: what keeps a web page away from a server without keys.

A page in a browser reaches a server on this machine under any name that leads to it (DNS rebinding); the browser then takes the
server for the page's own. The header Host still has that name, so it is checked where no key is required. Replies to pages of other
origins are unreadable to them, unless the origin is allowed.
Source: RFC 9110, section 7.2 (Host) and 15.5.20 (421); fetch.spec.whatwg.org, CORS protocol.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from potstill.serve.http.asgi import Headers, Message, Refused, header

ANY = "*"
LOOPBACK = "localhost"
_MAX_KNOWN = 256
_MAX_HOST_BYTES = 300  # of a name of 255 characters with its port


@dataclass(frozen=True)
class AccessPolicy:
    """The hosts and origins that are accepted."""

    hosts: frozenset[str] | None = None  # in lower case, beside addresses of loopback and `localhost`; None: any
    origins: frozenset[str] = frozenset()  # such as https://example.org; `*`: any
    _known: dict[bytes, bool] = field(default_factory=dict, repr=False)  # values of Host that were checked

    def check_host(self, scope: Message) -> None:
        """Raise Refused: 421 if a request names a host that is not accepted."""
        if self.hosts is None:
            return
        value = header(scope, b"host")
        if value is None:
            return  # HTTP/1.0; a browser always sends it
        accepted = self._known.get(value) if len(value) <= _MAX_HOST_BYTES else False
        if accepted is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            accepted = self._known[value] = _accepts(self.hosts, value.decode("latin-1"))
        if not accepted:
            raise Refused(
                421,
                "this server needs no key, so it answers only to localhost and names given with --allow-host",
                reason="host",
            )

    def cors(self, scope: Message) -> Headers:
        """The headers that let the page of an accepted origin read the reply; none for other requests."""
        if not self.origins:
            return []
        origin = header(scope, b"origin")
        if origin is None or not ({ANY, origin.decode("latin-1")} & self.origins):
            return []
        return [(b"access-control-allow-origin", b"*" if ANY in self.origins else origin), (b"vary", b"origin")]

    def preflight(self, scope: Message) -> Headers:
        """The headers of a reply to OPTIONS; see :meth:`cors`."""
        allowed = self.cors(scope)
        if allowed:
            allowed.append((b"access-control-allow-methods", b"GET, POST"))
            allowed.append((b"access-control-allow-headers", b"content-type, authorization, x-api-key, traceparent"))
        return allowed


def _accepts(hosts: frozenset[str], value: str) -> bool:
    """Tell whether the value of a Host header is accepted."""
    name, bracket, _ = value.partition("]")
    name = name[1:] if bracket and name.startswith("[") else value.rpartition(":")[0] or value
    name = name.lower().rstrip(".")
    if name == LOOPBACK or name.endswith("." + LOOPBACK) or name in hosts:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
