"""Who may come in: a one-time token in the address becomes a cookie; requests must name this server and come from its own pages.

What is kept out: a page elsewhere in the same browser that sends forms or reads replies (Origin, Sec-Fetch-Site, SameSite), one
that reaches this server under a name of its own (DNS rebinding: Host), and whoever on this machine finds the port (the token).
Source: RFC 9110, section 7.2 (Host); RFC 6454 (Origin); W3C Fetch Metadata (Sec-Fetch-Site); RFC 6265bis, SameSite.
"""

from __future__ import annotations

import secrets
from http.cookies import CookieError, SimpleCookie

from potstill.serve.http.application.access import AccessPolicy
from potstill.serve.http.asgi import Headers, Message, Refused, header

TOKEN = "token"  # the query's field
_BYTES = 32
_OWN = (b"same-origin", b"none")  # Sec-Fetch-Site: our own pages, or an address that a person typed or opened
_AGAIN = "open the address that potstill review printed; a new one is printed when the process gets SIGHUP"


class Door:
    """The tokens that were not used yet, and who is in."""

    def __init__(self, access: AccessPolicy) -> None:
        """Args: access, the hosts that requests may name."""
        self._access = access
        self._tokens: dict[str, str] = {}  # person by token
        self._sessions: dict[str, str] = {}  # person by value of the cookie

    def new_token(self, person: str) -> str:
        """A token that lets a browser in once, as that person."""
        token = secrets.token_urlsafe(_BYTES)
        self._tokens[token] = person
        return token

    def check(self, scope: Message) -> None:
        """Check where a request comes from, whoever sends it.

        Raises:
            Refused: 421 if it names another host, 403 if a page of another origin sends it, or one that does not say.
        """
        host = header(scope, b"host")
        if host is None:
            raise Refused(421, "a request must name its host")
        self._access.check_host(scope)
        origin, site = header(scope, b"origin"), header(scope, b"sec-fetch-site")
        own = b"http://" + host.lower()
        if (origin is not None and origin.lower() != own) or (site is not None and site not in _OWN):
            problem = "only pages of this server may ask for that; to come in, copy the address into the browser's address line"
            raise Refused(403, problem)
        if scope["method"] not in ("GET", "HEAD") and origin is None and site is None:
            raise Refused(403, "a request that changes something must say which page it comes from (Origin)")

    def enter(self, scope: Message, token: str) -> Headers:
        """The header with the cookie, for a token that was not used yet; raises Refused: 403 for any other."""
        person = self._tokens.pop(token, None)
        if person is None:
            raise Refused(403, f"this address was used before, or is not whole; {_AGAIN}")
        session = secrets.token_urlsafe(_BYTES)
        self._sessions[session] = person
        value = f"{_cookie_name(scope)}={session}; Path=/; HttpOnly; SameSite=Strict"
        return [(b"set-cookie", value.encode())]

    def person(self, scope: Message) -> str:
        """Who sends a request; raises Refused: 403 if its cookie is not one of ours."""
        given = header(scope, b"cookie")
        cookies = SimpleCookie()
        try:
            cookies.load("" if given is None else given.decode("latin-1"))
        except CookieError:
            cookies.clear()
        found = cookies.get(_cookie_name(scope))
        person = None if found is None else self._sessions.get(found.value)
        if person is None:
            raise Refused(403, f"this browser is not known here; {_AGAIN}")
        return person


def _cookie_name(scope: Message) -> str:
    """The name of the cookie, with the port: browsers share the cookies of an address among its ports."""
    return f"potstill_review_{(scope.get('server') or ('', 0))[1]}"
