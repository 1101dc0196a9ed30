"""Fixtures that many tests share: tiny pairs written once a session, trained heads among them, and golden files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import torch
from filelock import FileLock
from torch import Tensor

from driftcli.domain import System
from driftcli.engine.serving import ServedHead, ServedTarget, Verified
from driftcli.errors import UsageError
from driftcli.loading.outline import outline_pair
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.sources.files import Source, resolve
from driftcli.target.language_model import LanguageModel, load_language_model
from examples import train_eagle3
from tests.layouts import LAYOUTS, write_layout, write_layout_target
from tests.tiny import HeadSpec, prompts, trajectories, write_head, write_noisy_copy, write_target

os.environ["OMP_NUM_THREADS"] = "1"  # here and in every process begun: of tiny matrices a second thread only waits for the first
torch.set_num_threads(1)
GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files on purpose; review the diff")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(name, text)` asserts that the text is that of `tests/golden/<name>`."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), f"{name} differs from the golden file; --update-golden rewrites it"

    return check


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`clock(module, ...)` times what these modules time by a clock that only steps of a pair move: a target step takes 10 seconds and 1 a
    token, a first draft 3 and 0.5 for each more token that it reads, a further one 2.
    """
    now = [0.0]
    read_target, read_head, follow = ServedTarget.read, ServedHead.read, ServedHead.follow

    def target_step(self: ServedTarget, tokens: Tensor, asked: int) -> Verified:
        now[0] += 10 + tokens.shape[1]
        return read_target(self, tokens, asked)

    def first_step(self: ServedHead, tokens: Tensor, streams: Mapping[int, Tensor]) -> Tensor:
        now[0] += 3 + 0.5 * (tokens.shape[1] - 1)
        return read_head(self, tokens, streams)

    def further_step(self: ServedHead, guesses: Tensor) -> Tensor:
        now[0] += 2
        return follow(self, guesses)

    monkeypatch.setattr(ServedTarget, "read", target_step)
    monkeypatch.setattr(ServedHead, "read", first_step)
    monkeypatch.setattr(ServedHead, "follow", further_step)

    def of(*modules: ModuleType) -> None:
        for module in modules:
            monkeypatch.setattr(module, "perf_counter", lambda: now[0])

    return of


@contextmanager
def made_once(done: Path) -> Iterator[bool]:
    """Whether what a file stands for is still to be made, inside; of all workers of a session one does so, and the others wait for it."""
    with FileLock(f"{done}.lock"):
        yield not done.exists()
        done.touch()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny `target`, EAGLE-3 heads of random weights (`pre`, `post`) and a causal-LM drafter (`lm`) close to the target; read
    only, since all workers of a session share it.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "models"
    with made_once(folder.with_suffix(".written")) as asked:
        if asked:
            target = write_target(folder / "target")
            write_head(folder / "pre")
            write_head(folder / "post", HeadSpec(post_norm=True))
            write_noisy_copy(target, folder / "lm")
    return folder


@pytest.fixture(scope="session")
def target(models: Path) -> LanguageModel:
    """The tiny target; read only."""
    return load_language_model(Source("target", models / "target"), torch.device("cpu"), "float32")


@pytest.fixture
def usage() -> Callable[..., str]:
    """`usage(target, drafter, reading)` is the sentence with which a pair is refused, loaded and outlined alike."""

    def said(target: str, drafter: str, reading: System | None = None) -> str:
        with pytest.raises(UsageError) as loading:
            load_pair(target, drafter, torch.device("cpu"), "float32", reading=reading)
        with pytest.raises(UsageError) as outlining:
            outline_pair(target, drafter, reading=reading)
        assert str(loading.value) == str(outlining.value)
        return str(loading.value)

    return said


@pytest.fixture
def copy(models: Path, tmp_path: Path) -> Callable[[str], Path]:
    """`copy(name)` is a folder of its own with the files of that tiny model."""
    return lambda name: shutil.copytree(models / name, tmp_path / name)


@pytest.fixture(scope="session")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoint of every layout by its name, and their `target`; read only."""
    folder = tmp_path_factory.mktemp("layouts")
    write_layout_target(folder / "target")
    for each in LAYOUTS:
        write_layout(folder / each.name, each)
    return folder


@pytest.fixture(scope="session")
def trained(models: Path) -> Path:
    """The folder of `models` with two heads trained on the target's own text (`trained-pre`, `trained-post`), so that chains get past depth 1."""
    with made_once(models.with_suffix(".trained")) as asked:
        if asked:
            _train_heads(models)
    return models


def _train_heads(models: Path) -> None:
    target = load_language_model(resolve(str(models / "target")), torch.device("cpu"), "float32")
    said = [t for start in range(0, 96, 32) for t in trajectories(target, prompts(96)[start : start + 32], [], 40)]
    rows = [{"ids": trajectory.ids.tolist(), "prompt_length": trajectory.prompt_length} for trajectory in said]
    (models / "replies.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for norm in ("pre", "post"):
        train_eagle3.main(
            target=str(models / "target"),
            norm=norm,  # type: ignore[arg-type]
            out=models / f"trained-{norm}",
            cache=models / "streams",
            replies=models / "replies.jsonl",
            steps=150,
            tokens=1024,
            rate=3e-3,
            draft_vocabulary_size=200,
            device="cpu",
            dtype="float32",
        )


@pytest.fixture(scope="session")
def pair(trained: Path) -> Callable[[str], LoadedPair]:
    """`pair(name)` loads the tiny target with the drafter of that name; loaded once."""
    loaded: dict[str, LoadedPair] = {}

    def get(name: str) -> LoadedPair:
        if name not in loaded:
            loaded[name] = load_pair(str(trained / "target"), str(trained / name), torch.device("cpu"), "float32")
        return loaded[name]

    return get
