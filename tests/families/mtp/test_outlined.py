"""A head beside a target whose numbers are elsewhere: its experts are built after modules without any, and compute the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

from driftcli.errors import FormatError
from driftcli.families.layers import DecoderLayer
from driftcli.families.mtp.declaration import declare_mtp
from driftcli.families.mtp.experts import experts_like
from driftcli.families.mtp.head import Mtp, MtpModules
from driftcli.families.mtp.loading import read_mtp
from driftcli.loading.pair import load_pair
from driftcli.sources.checkpoint import open_checkpoint
from driftcli.sources.files import Source
from driftcli.target.language_model import LanguageModel, outline_language_model
from driftcli.target.parts import read_parts
from driftcli.target.target import Target
from tests.edits import refused
from tests.families.mtp.all_cases import CASES
from tests.families.mtp.cases import Case, write

SPARSE = [case for case in CASES if case.name in (
    "qwen3_5_moe", "qwen3_next", "glm4_moe", "deepseek_v3", "deepseek_v3-2", "hy_v3", "nemotron_h", "deepseek_v3-fp8",
)]  # fmt: skip


@dataclass(frozen=True)
class Outlined:
    """A target as an engine has it: embedding and head from its files, and modules without numbers."""

    outline: LanguageModel

    def __getattr__(self, name: str) -> Any:
        assert name in vars(Target)
        return getattr(self.outline, name)

    @property
    def embedding(self) -> torch.Tensor:
        return read_parts(self.outline, torch.device("cpu"), torch.float32).embedding

    @property
    def head(self) -> torch.Tensor:
        return read_parts(self.outline, torch.device("cpu"), torch.float32).head


def layers_of(drafter: Any) -> list[DecoderLayer]:
    modules = drafter.modules if isinstance(drafter, MtpModules) else (drafter,)
    return [module.layer for module in cast(Sequence[Mtp], modules)]


@pytest.mark.parametrize("case", SPARSE, ids=lambda case: case.name)
@torch.inference_mode()
def test_experts_compute_the_same_beside_a_target_whose_numbers_are_elsewhere(case: Case, tmp_path: Path) -> None:
    source = Source(case.name, write(case, tmp_path))
    outline = outline_language_model(source)
    assert all(parameter.is_meta for parameter in outline.model.parameters())
    declaration = declare_mtp(open_checkpoint(source), outline.facts)
    there, _ = read_mtp(declaration, cast(Target, Outlined(outline)))
    here = load_pair(str(tmp_path), "mtp", torch.device("cpu"), "float32").drafter
    rows = torch.randn(7, outline.config.hidden_size)
    for one, other in zip(layers_of(here), layers_of(there), strict=True):
        assert not isinstance(one.mlp, nn.Module)
        assert torch.equal(one.mlp(rows), other.mlp(rows))


def test_experts_with_numbers_that_no_file_holds_are_refused(tmp_path: Path) -> None:
    outline = outline_language_model(Source("qwen", write(next(case for case in SPARSE if case.name == "qwen3_next"), tmp_path)))
    cast(Any, outline.layers[-1]).mlp.register_buffer("own", torch.ones(2, device="meta"), persistent=False)
    refused(
        FormatError, lambda: experts_like("qwen", cast(Target, Outlined(outline)), {}), "computed with own", "use --engine transformers"
    )
