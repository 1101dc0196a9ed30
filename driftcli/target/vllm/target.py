"""A target that vLLM runs in this process: what is measured of it is the target as served, with that engine's kernels and quantisation.

Replies come by continuous batching, and so do readings: a text is a request of its own that holds prompt and reply, its streams are handed
over by vLLM's `extract_hidden_states`, its probabilities are log-probabilities of the prompt.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PretrainedConfig, PreTrainedTokenizerBase
from vllm import SamplingParams
from vllm import __version__ as VERSION
from vllm.sampling_params import RequestOutputKind

from driftcli.errors import FormatError, RunError, SourceError, UsageError
from driftcli.sources.files import Json, Source
from driftcli.target.facts import TargetFacts
from driftcli.target.in_process import until_end
from driftcli.target.language_model import Dtype, LanguageModel, choose_dtype, name_of, outline_language_model
from driftcli.target.output import Output
from driftcli.target.parts import Parts, read_parts
from driftcli.target.target import Reading, Served, Unread, Writing, end_tokens
from driftcli.target.vllm.engine import Engine, Request, Settings, check_args, check_device, dtype_computed, start
from driftcli.target.vllm.streams import HandedOver

SHARE = 0.7  # of a GPU's memory that vLLM may take, which leaves room for the drafter (chosen by us)
CPU_CACHE = 1 << 30  # bytes of its cache on a CPU (chosen by us)
AHEAD = 1 << 29  # bytes of what is said of texts that are read together, for a moment on the disk, then in memory (chosen by us)
TOLD = 1 << 10  # bytes a token of what vLLM says of it, about
CHECKED = (
    "Speculative decoding lets a small model draft a few tokens, which the large one verifies at once: 12 * 7 = 84, and "
    "for i in range(10): print(i). Le texte est lu une seule fois."
)  # a text on which distributions computed here are held against the engine's (chosen by us)
UNUSUAL = 16  # tokens behind it that no text brings together, the first of the vocabulary
STEPS = 64  # of the engine within which a finished request's streams must be there (chosen by us: one or two are enough)


@dataclass(frozen=True)
class _Heard:
    """What the engine says of a text: log-probabilities of some tokens at each position but the first, the text's own among them, and
    the streams by boundary, (position - 1, width).
    """

    told: Sequence[Mapping[int, float]]
    streams: Mapping[int, Tensor]


class VllmTarget:
    """A target whose engine runs once it is told which streams it is asked for; `outline` has its config and tokenizer, no numbers."""

    def __init__(self, outline: LanguageModel, parts: Parts, settings: Settings, args: Mapping[str, Json], folder: Path) -> None:
        self._outline, self._parts, self._settings, self._args = outline, parts, settings, args
        self._streams = HandedOver(folder, ())
        self._engine: Engine | None = None
        self._output = Output.of(parts, outline.config)
        self._untold: str | None = None

    @property
    def source(self) -> Source:
        """Where it comes from."""
        return self._outline.source

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""
        return self._outline.tokenizer

    @property
    def unread(self) -> tuple[str, ...]:
        """None: what has no place in the model is vLLM's to refuse."""
        return ()

    @property
    def config(self) -> PretrainedConfig:
        """The text model's settings."""
        return self._outline.config

    @property
    def facts(self) -> TargetFacts:
        """What a drafter's checkpoint is held against."""
        return self._outline.facts

    @property
    def generation_config(self) -> GenerationConfig:
        """How it is to be decoded by its files."""
        if (self.source.folder / "generation_config.json").is_file():
            return GenerationConfig.from_pretrained(self.source.folder)
        return self._outline.generation_config

    @property
    def room(self) -> int:
        """Positions of the engine, but for one that is kept free for the token that ends a reading."""
        return self._running().room - 1

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The decoder layers as transformers builds them, without numbers."""
        return self._outline.layers

    @property
    def embedding(self) -> Tensor:
        """Input embeddings (vocabulary, width), from its files."""
        return self._parts.embedding

    @property
    def head(self) -> Tensor:
        """Output projection (vocabulary, width), from its files."""
        return self._parts.head

    @property
    def device(self) -> torch.device:
        """Where its drafter is."""
        return self._parts.embedding.device

    @property
    def device_name(self) -> str:
        """What vLLM runs on, in the device's own words."""
        return name_of(self.device)

    @property
    def served(self) -> Served:
        """The engine, and how it was told to run the target."""
        return Served("vLLM", VERSION, self._running().quantisation, dict(self._args))

    @property
    def computed_as(self) -> None:
        """Not told: the engine has the weights."""
        return None

    @property
    def untold(self) -> str | None:
        """Why its entropies, and its probabilities at a temperature, are not told; None where they are."""
        return self._untold

    def start(self, boundaries: Sequence[int]) -> None:
        """Run the engine, ready to hand out the streams at these boundaries and the last one, from which the target's distributions are
        computed if what vLLM says of some text bears that out; SourceError where vLLM cannot.
        """
        layers = self._layers()
        needed = {min(boundary, layers) for boundary in boundaries}
        if needed and self._settings.get("pipeline_parallel_size", 1) != 1:
            raise UsageError(
                f"--engine-args: vLLM {VERSION} hands out no streams of a target in stages (pipeline_parallel_size); leave it out, and "
                "spread the target by tensor_parallel_size, also over machines"
            )
        self._streams.clear()  # of a run that was killed
        try:
            self._run(needed | ({layers} if self._output is not None else set()))
        except SourceError:
            if needed:
                raise
            self._run(set())  # for a drafter that reads no streams, vLLM need not be able to hand them out

    def _run(self, boundaries: set[int]) -> None:
        self._streams = replace(self._streams, boundaries=tuple(sorted(boundaries)))
        self._engine = start(self.source.name, {**self._settings, **self._streams.settings()})
        self._untold = self._borne_out()

    def close(self) -> None:
        """End the engine; its files go."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
        self._streams.clear()

    def write(self, prompts: Sequence[Sequence[int]], writing: Writing) -> list[list[int]]:
        """As the contract of a target, by continuous batching, each reply drawn from a seed of its own; RunError for replies beyond the
        engine's room.
        """
        self._require_room(max(map(len, prompts)) + writing.most)
        ends = [*end_tokens(self.generation_config, self.tokenizer), *writing.ends]
        drawn = torch.randint(1 << 62, (len(prompts),)).tolist() if writing.temperature else [None] * len(prompts)
        plain = {"max_tokens": writing.most, "ignore_eos": True, "stop_token_ids": ends, "detokenize": False}
        samplings = [SamplingParams(temperature=writing.temperature, seed=seed, **plain) for seed in drawn]
        answers = self._running().answers(list(map(Request, prompts, samplings)), _saying(writing))
        return [until_end(list(answer.outputs[0].token_ids), ends) for answer in answers]

    def read_all(
        self, texts: Sequence[Unread], boundaries: Sequence[int], temperature: float = 1.0, most: int | None = None
    ) -> Iterator[Reading]:
        """As the contract of a target, many texts together within a bound on memory and disk; RunError for streams that the engine was not
        started for, and for probabilities that are not told.
        """
        layers = self._layers()
        lost = sorted({min(boundary, layers) for boundary in boundaries} - set(self._streams.boundaries))
        if lost:
            told = f"streams at boundaries {', '.join(map(str, lost))} are not among what vLLM was started for"
            raise RunError(f"{told}; use --engine transformers")
        if temperature != 1.0 and self._untold is not None:
            raise RunError(f"probabilities at temperature {temperature:g} are not told in vLLM: {self._untold}; use --engine transformers")
        for some in parted([len(text.ids) for text in texts], self._ahead()):
            for text, heard in zip(texts[some], self._heard([text.ids for text in texts[some]]), strict=True):
                yield self._reading(text, heard, boundaries, temperature)

    def _ahead(self) -> int:
        """Tokens of texts that are read together."""
        return AHEAD // (len(self._streams.boundaries) * self.embedding.shape[1] * self.embedding.itemsize + TOLD)

    def _heard(self, texts: Sequence[Sequence[int]]) -> Iterator[_Heard]:
        """What the engine says of texts that it runs together, whose streams are taken from the disk before the first is looked at."""
        self._require_room(max(map(len, texts)))
        asked, last = self._streams.asked(), RequestOutputKind.FINAL_ONLY
        sampling = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=1, detokenize=False, extra_args=asked, output_kind=last)
        answers = self._running().answers([Request(ids, sampling) for ids in texts])
        streams = [self._taken(answer, len(ids) - 1) if asked else {} for ids, answer in zip(texts, answers, strict=True)]
        for answer, taken in zip(answers, streams, strict=True):
            told = [{token: one.logprob for token, one in some.items()} for some in answer.prompt_logprobs[1:]]
            yield _Heard(told, {boundary: stream.to(self.device) for boundary, stream in taken.items()})

    @torch.inference_mode()
    def _reading(self, text: Unread, heard: _Heard, boundaries: Sequence[int], temperature: float) -> Reading:
        first, wanted = text.prompt_length - 1, text.ids[text.prompt_length :]
        told = list(zip(heard.told[first:], wanted, strict=True))
        own = torch.tensor([some[token] for some, token in told])
        choices = torch.tensor([token if some[token] >= max(some.values()) else max(some, key=some.__getitem__) for some, token in told])
        probs, entropies, last, streams = own.exp(), None, self._layers(), heard.streams
        if self._output is not None and self._untold is None:
            computed, entropies = self._output.probs_and_entropies(streams[last][first:], torch.tensor(wanted), temperature)
            probs = probs if temperature == 1.0 else computed
        found = {boundary: self._normed(streams[last]) if boundary > last else streams[boundary] for boundary in boundaries}
        return Reading(probs, entropies, choices, found)

    @torch.inference_mode()
    def _borne_out(self) -> str | None:
        """Why distributions that are computed from the last stream are not those of the engine; None where they are."""
        if self._output is None:
            return "its decoder has no final norm by a known name"
        if not self._streams.boundaries:
            return "vLLM hands out no streams of it"
        ids = [*self.tokenizer(CHECKED, add_special_tokens=False).input_ids, *range(UNUSUAL)][: self._running().room - 1]
        (heard,) = self._heard([ids])
        apart, rounding = self._output.apart(heard.streams[self._layers()], heard.told)
        if apart <= rounding:
            return None
        return f"its head gives log-probabilities that are up to {apart:.2g} apart from vLLM's, expected {rounding:.2g} at most"

    def _taken(self, answer: Any, rows: int) -> dict[int, Tensor]:
        """The streams of a request that is done, and its file is gone."""
        path, engine = Path(answer.kv_transfer_params["hidden_states_path"]), self._running()
        for _ in range(STEPS):
            if path.exists():
                break
            engine.step()  # the last request's streams are written with the engine's next step
        else:
            raise RunError(
                f"{path}: vLLM wrote no streams there, expected those of a text; is the folder on a disk that all its workers see?"
            )
        return self._streams.take(path, rows)

    def _normed(self, last: Tensor) -> Tensor:
        """The stream behind the final norm, boundary L + 1, from the one before it, which is the last that vLLM hands out."""
        if self._parts.final_norm is None:
            raise FormatError(f"{self.source.name}: its decoder has no final norm by a known name, expected one; use --engine transformers")
        normed: Tensor = self._parts.final_norm(last)
        return normed

    def _layers(self) -> int:
        layers = self.facts.layers
        assert layers is not None, "an outline's layers are known"
        return layers

    def _running(self) -> Engine:
        assert self._engine is not None, "the target was started"
        return self._engine

    def _require_room(self, tokens: int) -> None:
        """RunError for a text of more tokens than there is room for."""
        if tokens > self.room:
            raise RunError(
                f"a text of up to {tokens} tokens does not fit the {self.room} positions that vLLM's engine has for it; ask for shorter "
                "ones, give the engine more memory, or --engine-args '{\"max_model_len\": ...}'"
            )


def _saying(writing: Writing) -> Callable[[Sequence[int]], None] | None:
    """What tells how many tokens a reply has on average, one that is done as many as it might have had."""
    say = writing.say
    return None if say is None else lambda counts: say(sum(counts) // len(counts))


def parted(lengths: Sequence[int], most: int) -> list[slice]:
    """Texts of these lengths in parts of at most so many tokens, or of one text, in their order."""
    starts, held = [0], 0
    for place, length in enumerate(lengths):
        if held and held + length > most:
            starts.append(place)
            held = 0
        held += length
    return [slice(start, end) for start, end in itertools.pairwise([*starts, len(lengths)])]


def prepare(
    source: Source, device: torch.device, dtype: Dtype, args: Mapping[str, Json], folder: Path, *, remote_code: bool = False
) -> VllmTarget:
    """A target that is ready to be started: what of it can be refused before the engine runs is refused.

    args: of vLLM's engine. folder: for its files, made and removed here. Raises UsageError for arguments or a device that cannot be, and
    SourceError for a target that vLLM does not run.
    """
    check_args(args)
    check_device(device)
    outline = outline_language_model(source, remote_code=remote_code)
    on_cpu = device.type == "cpu"
    chosen = choose_dtype(dtype, device)
    settings = {
        "max_model_len": -1,  # as much as the memory has room for, up to what the config admits
        "enforce_eager": on_cpu,
        "seed": 0,
        **({"kv_cache_memory_bytes": CPU_CACHE} if on_cpu else {"gpu_memory_utilization": SHARE}),
        **args,
        "model": str(source.folder),
        "dtype": chosen if isinstance(chosen, str) else str(chosen).removeprefix("torch."),
        "trust_remote_code": remote_code,
        "enable_prefix_caching": False,  # a text that was seen before would give neither streams nor probabilities of what is cached
        "generation_config": "vllm",
    }
    return VllmTarget(outline, read_parts(outline, device, dtype_computed(source.name, settings)), settings, args, folder)
