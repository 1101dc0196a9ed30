"""Servers that mean harm, or nothing at all: every request ends, in one sentence, and the key stays here."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from threading import Thread

import pytest

from driftcli.errors import DriftError, ServerError, UsageError
from driftcli.served import http
from driftcli.served.http import Client, as_json, client, whole, wholes
from driftcli.served.key import KEY
from driftcli.served.servers import connect
from tests.served.world import Answers, AsVllm, served

SECRET = "s3cr3t-k3y-of-somebody"


@contextmanager
def raw(*parts: bytes, pause: float = 0.0, again: bool = False) -> Iterator[str]:
    """A server that sends these bytes whatever it is asked; again: the last ones without end."""
    listening = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                connection, _ = listening.accept()
                connection.recv(65536)
                for part in parts:
                    connection.sendall(part)
                    time.sleep(pause)
                while again:
                    connection.sendall(parts[-1])
                    time.sleep(pause)
                connection.close()
            except OSError:
                if listening.fileno() < 0:
                    return

    Thread(target=answer, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.close()


def refusal(url: str, timeout: float = 5) -> str:
    with pytest.raises(ServerError) as refused:
        connect(client(url, timeout))
    return str(refused.value)


def test_an_answer_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LONGEST_ANSWER", 1 << 20)
    with raw(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536, again=True) as url:
        assert "an answer of more than 1 MiB" in refusal(url)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: ",
    ],
)
def test_an_answer_that_trickles_is_cut_in_time(head: bytes) -> None:
    with raw(
        head,
        b"1\r\n0\r\n" if b"chunked" in head else b"HTTP/1.1 100 Continue\r\n\r\n" if b"100" in head[:13] else b"y",
        pause=0.05,
        again=True,
    ) as url:
        assert "no whole answer within 0.5 s; give it more with --timeout" in refusal(url, 0.5)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0\xff\0",
        b"HTTP/9.9 999 what\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 9999,
    ],
)
def test_what_is_no_answer_is_a_sentence(answer: bytes) -> None:
    with raw(answer) as url:
        said = refusal(url)
    assert said.startswith(f"{url}/v1/models: ") and "\n" not in said


def test_nobody_there_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert refusal(f"http://127.0.0.1:{port}").endswith("is the server up?")


def test_a_redirect_is_not_followed() -> None:
    with raw(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/steal\r\nContent-Length: 0\r\n\r\n") as url:
        assert "HTTP 302, which is not followed" in refusal(url)


class Shouting(Answers):
    """Refuses, repeats the key that it was sent, and tries to drive the terminal."""

    def do_GET(self) -> None:
        self.send(401, f"\x1b[2J\x1b]0;mine\x07 your key is {self.headers.get('Authorization')} " + "z" * 100000)


def test_the_key_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, SECRET)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-service")
    with served(None, Shouting) as url:
        said = refusal(url)
    assert f"set {KEY} to a key that it takes" in said and "your key is Bearer ***" in said
    assert SECRET not in said and "\x1b" not in said and len(said) < 600
    assert SECRET not in repr(client(url, 1))


def test_no_other_services_key_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-service")
    with served(None, Shouting) as url:
        assert "your key is None" in refusal(url)


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_a_key_that_no_header_carries_is_refused_unseen(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, key)
    with pytest.raises(UsageError) as refused:
        client("http://127.0.0.1:1", 1)
    assert key not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8000",
        "ftp://host",
        "http://",
        "http://host:port",
        "http://host/?a=b",
        "http://ho\nst",
        "http://host/a b",
        "file:///etc/passwd",
    ],
)
def test_what_is_no_url_of_a_server_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError):
        client(url, 1)


def test_a_password_in_the_url_is_refused_unseen() -> None:
    with pytest.raises(UsageError) as refused:
        client("http://me:hunter2@host:8000", 1)
    assert "hunter2" not in str(refused.value) and KEY in str(refused.value)


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("http://host:8000", "http://host:8000"),
        ("http://host:8000/v1/", "http://host:8000"),
        ("https://host/proxy/v1", "https://host:443/proxy"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_a_url_is_taken_with_and_without_its_version(url: str, root: str) -> None:
    assert client(url, 1).url == root


class NotSpeculating(AsVllm):
    def got(self, path: str) -> object | None:
        return 'vllm:generation_tokens_total{engine="0"} 1.0\n' if path == "/metrics" else super().got(path)


class Silent(AsVllm):
    def got(self, path: str) -> object | None:
        return {"data": [{"id": "m"}]} if path == "/v1/models" else None


class SglangWithout(Silent):
    def got(self, path: str) -> object | None:
        return {"version": "0.5.23", "speculative_algorithm": None} if path == "/server_info" else super().got(path)


class TensorRtWithout(Silent):
    def got(self, path: str) -> object | None:
        return "trtllm_generation_tokens_total 1.0\n" if path == "/prometheus/metrics" else super().got(path)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (NotSpeculating, "vLLM 0.33.0 counts no draft tokens, so it does not speculate; start it with --speculative-config"),
        (SglangWithout, "SGLang 0.5.23 does not speculate; start it with --speculative-algorithm"),
        (TensorRtWithout, "names no draft length (spec_num_tokens), so it does not speculate"),
        (Silent, "shows no counters of vLLM, SGLang, TensorRT-LLM"),
    ],
)
def test_a_server_that_does_not_speculate_or_tell_is_refused(kind: type[BaseHTTPRequestHandler], said: str) -> None:
    engine = type("Nothing", (), {"longest": 100, "vllm_metrics": lambda _: ""})()
    with served(engine, kind) as url:  # type: ignore[arg-type]
        assert said in refusal(url)


def test_numbers_and_lists_of_a_server_are_taken_for_nothing_else() -> None:
    assert [whole(one) for one in (3, 3.0, True, -1, 1.5, "3", None, 1e300, 2**60)] == [3, 3, None, None, None, None, None, None, None]
    assert wholes([1, 2.0]) == (1, 2) and wholes([1, None]) is None and wholes({"0": 1}) is None
    assert as_json(b"[" * 100_000) is None and as_json(b"{") is None and as_json(json.dumps([1]).encode()) == [1]


def test_a_post_that_is_answered_without_json_is_refused() -> None:
    with raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html") as url, pytest.raises(DriftError, match="the answer is no JSON"):
        client(url, 5).post("/v1/completions", {"prompt": [1]})
    assert isinstance(client(url, 5), Client)
