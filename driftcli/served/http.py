"""Asking a server over HTTP: every answer is bounded in bytes and in seconds, nothing is followed elsewhere, and the key is never shown.

A server may be slow, lie about its lengths, or never end an answer; whatever it does, a request ends in an answer or in a `ServerError`.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from socket import SHUT_RDWR, socket
from threading import Event, Timer
from urllib.parse import urlsplit

from driftcli.errors import ServerError, UsageError
from driftcli.printable import one_line
from driftcli.served.key import KEY

LONGEST_ANSWER = 32 << 20  # bytes of an answer; metrics of a large server are 1 MiB (chosen by us)
QUOTED = 160  # characters of a server's own words in a message
DEEPEST_MOST = 64 << 10  # bytes of an error's body that are looked at


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status and the body."""

    status: int
    body: bytes


@dataclass(frozen=True)
class Client:
    """A server at `scheme://host:port/prefix`; timeout: seconds of a request, from its first byte to the last of its answer."""

    scheme: str
    host: str
    port: int
    prefix: str
    timeout: float
    key: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """Where it is, as text."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.prefix}"

    def get(self, path: str) -> Answer:
        """What a path answers, whatever its status."""
        return self._ask("GET", path, None)

    def find(self, path: str) -> bytes | None:
        """What a path holds, None where the server has no such path; ServerError where it refuses."""
        answer = self.get(path)
        return None if answer.status in (404, 405, 501) else self._good(path, answer)

    def find_json(self, path: str) -> object:
        """The same as JSON; None where it is none."""
        body = self.find(path)
        return None if body is None else as_json(body)

    def post(self, path: str, content: Mapping[str, object]) -> object:
        """What the server answers to a request, as JSON; ServerError where it refuses it or answers anything else."""
        body = self._good(path, self._ask("POST", path, json.dumps(content).encode()))
        if (found := as_json(body)) is None:
            raise ServerError(
                f"{self.url}{path}: the answer is no JSON ({self._quoted(body)}); name the root of an OpenAI-compatible server"
            )
        return found

    def _good(self, path: str, answer: Answer) -> bytes:
        if answer.status == 200:
            return answer.body
        said = self._quoted(answer.body) or "no words"
        if answer.status in (401, 403):
            raise ServerError(f"{self.url}{path}: refused ({answer.status}: {said}); set {KEY} to a key that it takes")
        moved = ", which is not followed" if answer.status in (301, 302, 303, 307, 308) else ""
        raise ServerError(f"{self.url}{path}: HTTP {answer.status}{moved}: {said}; name the root of an OpenAI-compatible server that is up")

    def _quoted(self, body: bytes) -> str:
        """A server's own words in one line, without the key, should it have sent it back."""
        text = body[:DEEPEST_MOST].decode(errors="replace")
        return one_line(text.replace(self.key, "***") if self.key else text, QUOTED)

    def _ask(self, method: str, path: str, body: bytes | None) -> Answer:
        connection, late = self._connection(), Event()
        watch = Timer(self.timeout, _cut, (connection, late))
        watch.daemon = True
        watch.start()
        try:
            connection.request(method, self.prefix + path, body, self._headers(body))
            response = connection.getresponse()
            found = response.read(LONGEST_ANSWER + 1)
        except (OSError, HTTPException, ValueError) as error:
            why = (
                self._too_late() if late.is_set() or isinstance(error, TimeoutError) else f"no answer ({_reason(error)}); is the server up?"
            )
            raise ServerError(f"{self.url}{path}: {why}") from error
        finally:
            watch.cancel()
            connection.close()
        if late.is_set():
            raise ServerError(f"{self.url}{path}: {self._too_late()}")
        if len(found) > LONGEST_ANSWER:
            raise ServerError(f"{self.url}{path}: an answer of more than {LONGEST_ANSWER >> 20} MiB, expected one that ends before that")
        return Answer(response.status, found)

    def _too_late(self) -> str:
        return f"no whole answer within {self.timeout:g} s; give it more with --timeout"

    def _connection(self) -> HTTPConnection:
        if self.scheme == "https":
            return HTTPSConnection(self.host, self.port, timeout=self.timeout, context=ssl.create_default_context())
        return HTTPConnection(self.host, self.port, timeout=self.timeout)

    def _headers(self, body: bytes | None) -> dict[str, str]:
        kept = {"Accept": "application/json, text/plain", "User-Agent": "driftcli", "Connection": "close"}
        kind = {} if body is None else {"Content-Type": "application/json"}
        return {**kept, **kind, **({"Authorization": f"Bearer {self.key}"} if self.key else {})}


def client(url: str, timeout: float) -> Client:
    """A client of the server at a URL, with the key of the environment; UsageError where either cannot be used."""
    key = os.environ.get(KEY, "")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise UsageError(f"{KEY}: holds blanks or characters that no header can carry, expected a key of plain ASCII")
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{url}: is no URL ({error}), expected one such as http://127.0.0.1:8000") from error
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"{url}: holds a user or a password, which would be shown and stored; set {KEY} instead")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or not url.isprintable():
        raise UsageError(f"{url}: expected the root of a server, such as http://127.0.0.1:8000 or https://host/v1")
    prefix = parts.path.rstrip("/").removesuffix("/v1")
    if not prefix.isascii() or " " in prefix:
        raise UsageError(f"{url}: expected a path of plain ASCII, such as http://127.0.0.1:8000")
    return Client(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), prefix, timeout, key)


def as_json(body: bytes) -> object:
    """A body as JSON, None where it is none, or nested too deep to be read."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def child(value: object, *path: str | int) -> object:
    """What stands at a path within JSON, None where nothing does."""
    for step in path:
        if isinstance(step, str) and isinstance(value, dict):
            value = value.get(step)
        elif isinstance(step, int) and isinstance(value, list) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def whole(value: object) -> int | None:
    """A number that counts something, None for anything else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53 else None


def wholes(value: object) -> tuple[int, ...] | None:
    """A list of such numbers, token ids or counts, None for anything else."""
    if not isinstance(value, list):
        return None
    found = [whole(one) for one in value]
    return None if None in found else tuple(one for one in found if one is not None)


def text(value: object, longest: int = 80) -> str:
    """A server's word on one line, empty where it is none; not yet printable."""
    return one_line(value, longest) if isinstance(value, str) else ""


def _cut(connection: HTTPConnection, late: Event) -> None:
    """End a connection that takes too long, whatever its thread waits for."""
    late.set()
    if isinstance(connection.sock, socket):
        try:
            socket.shutdown(connection.sock, SHUT_RDWR)
        except OSError:
            return


def _reason(error: Exception) -> str:
    words = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return one_line(words, QUOTED)
