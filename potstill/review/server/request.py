"""One request of a person: its query and its form, within bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qs

from potstill.serve.http.asgi import Message, Receive, Refused, header, read_body

MAX_BODY_BYTES = 65_536
MAX_FIELDS = 400  # of a form: a task may ask about hundreds of tags
_FORM = b"application/x-www-form-urlencoded"

Fields = dict[str, list[str]]


@dataclass(frozen=True)
class ReviewRequest:
    """A request that was let in."""

    person: str
    method: str
    path: str
    query: Fields
    query_string: str
    form: Fields = field(default_factory=dict)  # empty but for POST

    def asked(self, name: str) -> str:
        """The last value of a field of the query, "" if there is none."""
        return self.query.get(name, [""])[-1]

    def sent(self, name: str) -> str:
        """The last value of a field of the form, "" if there is none."""
        return self.form.get(name, [""])[-1]


def read_query(scope: Message) -> Fields:
    """The fields of a request's query; raises Refused: 400."""
    return _fields(scope["query_string"])


async def read_form(scope: Message, receive: Receive) -> Fields:
    """The fields of a form.

    Raises:
        Refused: 413 if it is too large, 415 if it is no form, 400 if it is damaged.
        Disconnected: if the client goes before it has arrived.
    """
    kind = (header(scope, b"content-type") or b"").partition(b";")[0].strip().lower()
    body = await read_body(scope, receive, MAX_BODY_BYTES)
    if kind != _FORM:
        raise Refused(415, f"a form must be {_FORM.decode()}")
    return _fields(body)


def _fields(data: bytes) -> Fields:
    """Decode fields; raises Refused: 400."""
    try:
        return parse_qs(data.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError as error:  # not ASCII, not UTF-8 when decoded, or too many
        raise Refused(400, "the fields are not what a form of these pages holds") from error
