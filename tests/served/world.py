"""A run and a server for it, without a model: replies are the run's, and rounds keep what a table says. Answers have the documented forms."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from driftcli.conditions import DraftSettings, Wiring
from driftcli.served.foreseen import texts_of
from driftcli.traces.reader import Run, read_run
from tests.report.synthetic import Life, Recipe, write_run

RAW, SHIFTED = "wiring-feedback-raw", "wiring-capture-1-3-4"
FILED = Life(fresh=0.85, lost=(0,) * 8)
OTHERS = {RAW: Life(fresh=0.85, lost=(0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)), SHIFTED: Life(fresh=0.3, lost=(0,) * 8)}
WIRINGS = {RAW: Wiring(feedback="raw"), SHIFTED: Wiring(capture=(1, 3, 4))}


def made_run(path: Path, prompts: int = 24, *, temperature: float = 0.0) -> Run:
    """A run whose prompts differ in their ids, with two other wirings of full depth."""
    names = tuple(f"prompt-{number:02}" for number in range(prompts))
    write_run(path, replace(Recipe(), life=FILED, prompts=names, extra={name: ("wiring", life) for name, life in OTHERS.items()}))
    for number, file in enumerate(sorted((path / "trajectories").glob("*.parquet"))):
        table = pq.read_table(file)
        ids = [distinct(len(row), 1000 * number + place) for place, row in enumerate(table["ids"].to_pylist())]
        at = table.schema.get_field_index("ids")
        pq.write_table(table.set_column(at, table.schema.field(at), pa.array(ids, table.schema.field(at).type)), file)
    manifest = json.loads((path / "run.json").read_text())
    for condition in manifest["request"]["conditions"]:
        wiring = WIRINGS.get(condition["name"], Wiring())
        condition["settings"] = json.loads(json.dumps(asdict(DraftSettings(wiring=wiring))))
    manifest["request"]["temperature"] = temperature
    (path / "run.json").write_text(json.dumps(manifest))
    return read_run(path)


def distinct(length: int, text: int) -> list[int]:
    """Token ids of a text that no other has at the same place."""
    return [10 + (7919 * text + 31 * place) % 30000 for place in range(length)]


@dataclass
class Engine:
    """Decodes the texts of a run; kept: drafts that a round at each anchor of a text keeps. parts: from which reply token on a text's reply
    is another, by its place among the texts. foreign: reply tokens of somebody else that are counted after each reply.
    """

    texts: list[tuple[tuple[int, ...], int]]
    kept: list[np.ndarray]
    drafts: int = 4
    parts: dict[int, int] = field(default_factory=dict)
    foreign: int = 0
    longest: int = 4096
    requests: list[dict[str, Any]] = field(default_factory=list)
    rounds: int = 0
    tokens: int = 0
    kept_at: list[int] = field(default_factory=lambda: [0] * 64)
    lock: Any = field(default_factory=Lock)

    @classmethod
    def of(cls, run: Run, condition: str = "baseline", drafts: int = 4) -> Engine:
        """A server that is wired as a condition of the run is."""
        from driftcli.served.foreseen import _kept

        own, texts = _kept(run, condition), texts_of(run, drafts)
        return cls([(text.ids, text.prompt_length) for text in texts], [own[text.key] for text in texts], drafts)

    def reply(self, ids: Sequence[int], most: int) -> tuple[list[int], list[int]]:
        """The reply and what each of its rounds keeps; counted."""
        place = next(place for place, (text, _) in enumerate(self.texts) if list(text[: len(ids)]) == list(ids))
        (text, prompt), kept = self.texts[place], self.kept[place]
        rounds, emitted, anchor = list[int](), 1, len(ids) - prompt
        while emitted < most:
            rounds.append(min(int(kept[anchor]) if anchor < len(kept) else 0, self.drafts))
            emitted, anchor = emitted + rounds[-1] + 1, anchor + rounds[-1] + 1
        reply = list(text[len(ids) : len(ids) + most])
        first = self.parts.get(place, 1 << 20) - (len(ids) - prompt)
        reply = [token + 1 if place >= first else token for place, token in enumerate(reply)]
        with self.lock:
            self.rounds += len(rounds)
            self.tokens += len(reply) + self.foreign
            for one in rounds:
                for position in range(one):
                    self.kept_at[position] += 1
        return reply, rounds

    def vllm_metrics(self) -> str:
        """`/metrics` as vLLM shows it, of two engines that share the work."""
        lines = [
            "# HELP vllm:spec_decode_num_drafts_total Number of spec decoding drafts.",
            'vllm:cache_config_info{enable_prefix_caching="True"} 1.0',
        ]
        for name, value in (("drafts", self.rounds), ("draft_tokens", self.rounds * self.drafts), ("accepted_tokens", sum(self.kept_at))):
            lines += [f'vllm:spec_decode_num_{name}_total{{engine="{e}",model_name="m"}} {float(v)}' for e, v in halves(value)]
            lines += [f'vllm:spec_decode_num_{name}_created{{engine="0",model_name="m"}} 1.7e+09']
        for position in range(self.drafts):
            name = "vllm:spec_decode_num_accepted_tokens_per_pos_total"
            lines += [f'{name}{{engine="{e}",model_name="m",position="{position}"}} {float(v)}' for e, v in halves(self.kept_at[position])]
        lines += [f'vllm:generation_tokens_total{{engine="{e}",model_name="m"}} {float(v)}' for e, v in halves(self.tokens)]
        return "\n".join(lines) + "\n"


def halves(value: int) -> list[tuple[int, int]]:
    return [(0, value // 2), (1, value - value // 2)]


class Answers(BaseHTTPRequestHandler):
    """What a server of a kind answers; subclasses name the paths."""

    engine: Engine

    def do_GET(self) -> None:
        found = self.got(self.path)
        self.send(404, {"error": "no such path"}) if found is None else self.send(200, found)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.engine.requests.append({**asked, "authorization": self.headers.get("Authorization")})
        self.send(200, self.posted(self.path, asked))

    def got(self, path: str) -> object | None:
        raise NotImplementedError

    def posted(self, path: str, asked: dict[str, Any]) -> object:
        raise NotImplementedError

    def send(self, status: int, content: object) -> None:
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class AsVllm(Answers):
    def got(self, path: str) -> object | None:
        models = {"object": "list", "data": [{"id": "m", "owned_by": "vllm", "max_model_len": self.engine.longest}]}
        return {"/v1/models": models, "/version": {"version": "0.33.0"}, "/metrics": self.engine.vllm_metrics()}.get(path)

    def posted(self, path: str, asked: dict[str, Any]) -> object:
        assert path == "/v1/completions" and asked.get("temperature", 0) == 0 and asked["return_token_ids"] is True
        reply, _ = self.engine.reply(asked["prompt"], asked["max_tokens"])
        return {"choices": [{"index": 0, "text": "?", "token_ids": reply, "finish_reason": "length"}]}


class AsVllmThatTellsEach(AsVllm):
    """vLLM with `--per-request-spec-decode-metrics summary`."""

    def posted(self, path: str, asked: dict[str, Any]) -> object:
        reply, rounds = self.engine.reply(asked["prompt"], asked["max_tokens"])
        told = {
            "num_spec_steps": len(rounds),
            "num_accepted_draft_tokens": sum(rounds),
            "num_draft_tokens": self.engine.drafts * len(rounds),
            "acceptance_histogram": [rounds.count(kept) for kept in range(self.engine.drafts + 1)],
        }
        return {"choices": [{"token_ids": reply}], "metrics": {"speculative_decoding": told}}


class AsSglang(Answers):
    width: int = 1

    def got(self, path: str) -> object | None:
        info = {
            "version": "0.5.23",
            "model_path": "m",
            "context_length": self.engine.longest,
            "speculative_algorithm": "EAGLE3",
            "speculative_num_steps": self.engine.drafts,
            "speculative_eagle_topk": self.width,
            "speculative_num_draft_tokens": self.engine.drafts + 1,
            "disable_radix_cache": False,
            "internal_states": [{"avg_spec_accept_length": 2.5}],
        }
        return {"/v1/models": {"data": [{"id": "m", "owned_by": "sglang"}]}, "/server_info": info}.get(path)

    def posted(self, path: str, asked: dict[str, Any]) -> object:
        assert path == "/generate" and asked["sampling_params"].get("temperature", 0) == 0
        most = asked["sampling_params"]["max_new_tokens"]
        reply, rounds = self.engine.reply(asked["input_ids"], most)
        trimmed = [*rounds[:-1], *([rounds[-1] - (1 + sum(rounds) + len(rounds) - most)] if rounds else [])]  # SGLang cuts the last round
        told = {
            "completion_tokens": len(reply),
            "spec_verify_ct": len(rounds),
            "spec_num_correct_drafts": sum(trimmed),
            "spec_num_proposed_drafts": self.engine.drafts * len(rounds),
            "spec_correct_drafts_histogram": [trimmed.count(kept) for kept in range(self.engine.drafts + 1)],
        }
        return {"text": "?", "output_ids": reply, "meta_info": told}


class AsTensorRtLlm(Answers):
    def got(self, path: str) -> object | None:
        lines = [
            f'trtllm_speculative_config_info{{spec_enabled="true",spec_method="Eagle3",spec_num_tokens="{self.engine.drafts}"}} 1.0',
            f'trtllm_spec_decode_num_draft_tokens_total{{model_name="m"}} {float(self.engine.rounds * self.engine.drafts)}',
            f'trtllm_generation_tokens_total{{model_name="m"}} {float(self.engine.tokens)}',
        ]
        models = {"data": [{"id": "m", "owned_by": "tensorrt_llm"}]}
        return {"/v1/models": models, "/version": {"version": "1.2.0"}, "/prometheus/metrics": "\n".join(lines)}.get(path)

    def posted(self, path: str, asked: dict[str, Any]) -> object:
        assert path == "/v1/completions" and asked["detokenize"] is False
        return {"choices": [{"index": 0, "text": "", "token_ids": self.engine.reply(asked["prompt"], asked["max_tokens"])[0]}]}


@contextmanager
def served(engine: Engine | None, answers: type[BaseHTTPRequestHandler] = AsVllm) -> Iterator[str]:
    """The URL of a server of this kind on the loopback, while the block runs."""
    kind = type("Bound", (answers,), {"engine": engine, "protocol_version": "HTTP/1.1"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    server.daemon_threads = True
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
