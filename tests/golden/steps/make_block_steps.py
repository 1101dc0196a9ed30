"""Writes the golden steps of block drafters: what the producers' own classes compute for the tiny drafters of `tests.families.block`.

Run once, from the repository root, with transformers 5.19, speculators 0.9.0, z-lab's dflash 0.1.0 and a checkout of deepseek-ai/DeepSpec
(afdfa7c9):

    PYTHONPATH=.:../DeepSpec python -m tests.golden.steps.make_block_steps [CASE...]

A file holds the logits of the guessing rows for blocks of as many rows as training had and of fewer, at every anchor: `rows.R` (anchor,
guess, vocabulary), what corrects them following the text, and for DeepSpec's `own.R`, following the guesses. Of DFlash2 they are the
log-probabilities of the candidates, and 0 for all others; z-lab's `own.R` holds the tokens that it drafts. Of a drafter with a confidence
head it holds its logits too, `confidence.rows.R` and `confidence.own.R` (anchor, guess). Names behind the command write these cases alone.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from deepspec.modeling.dspark.gemma4 import modeling as gemma4_modeling
from deepspec.modeling.dspark.qwen3.modeling import Qwen3DSparkModel
from dflash.model import DFlash2DraftModel, DFlashDraftModel
from safetensors.torch import save_file
from speculators.models.dflash.config import DFlashSpeculatorConfig
from speculators.models.dflash.core import DFlashDraftModel as Speculator
from speculators.models.dflash2.config import DFlash2SpeculatorConfig
from speculators.models.dflash2.core import DFlash2DraftModel as Speculator2
from speculators.models.dspark.config import DSparkSpeculatorConfig
from speculators.models.dspark.core import DSparkDraftModel
from torch import Tensor, nn
from transformers import DynamicCache, Gemma4TextConfig

from tests.families.block.cases import CASES, MASK, ROWS, Case, write
from tests.golden.steps.seeds import seeded_ids, seeded_stream
from tests.layouts import EMBEDDING, HEAD, VOCABULARY

HERE = Path(__file__).parent / "block"
ANCHORS = range(4, 10)
SHORTER = 3  # rows of a block that drafts two tokens
Found = tuple[Tensor, Tensor | None]  # logits, and those of the confidence head
Rows = Callable[[Case, Tensor, Tensor, int, int], Found]


def among(candidates: Tensor, scores: Tensor) -> Tensor:
    """Log-probabilities of candidates (..., candidate) in their places among all tokens."""
    return torch.zeros(*scores.shape[:-1], VOCABULARY).scatter(-1, candidates, scores.log_softmax(-1))


def zlab(case: Case, ids: Tensor, streams: Tensor, anchor: int, rows: int, *, own: bool = False) -> Found:
    """z-lab's class on one block; of DFlash2 row after row behind the text's token or, for `own`, the tokens of its own walk."""
    second = case.config["architectures"] == ["DFlash2DraftModel"]
    with tempfile.TemporaryDirectory() as folder:
        model = (DFlash2DraftModel if second else DFlashDraftModel).from_pretrained(write(case, Path(folder))).eval()
    head = nn.Linear(EMBEDDING.shape[1], VOCABULARY, bias=False)
    head.weight.copy_(HEAD)
    block = torch.tensor([int(ids[anchor]), *[MASK] * (rows - 1)])
    scale = case.config["dflash_config"].get("input_embedding_scale", 1.0)  # type: ignore[union-attr]
    states = model(
        position_ids=torch.arange(anchor + rows)[None], noise_embedding=EMBEDDING[block][None] * scale, target_hidden=streams[None, :anchor]
    )
    if own:
        return model.propose(states[:, 1:], ids[anchor : anchor + 1], head, 0.0)[0][0], None
    if not second:
        return model.compute_logits(states[:, 1:], head)[0], None
    found = []
    for row in range(1, rows):
        _, candidates, shares = model.propose(states[:, row : row + 1], ids[anchor + row - 1][None], head, 1.0)
        found.append(among(candidates[0, 0], shares[0, 0].log()))
    return torch.stack(found), None


def speculators(case: Case, ids: Tensor, streams: Tensor, anchor: int, rows: int) -> Found:
    """speculators' class on one block, which it cuts out of a text as in training."""
    kind = case.config["speculators_model_type"]
    made, built = MODELS[str(kind)]
    config = made(**{**case.config, "block_size": rows})
    config.transformer_layer_config._attn_implementation = "eager"
    model = built(config).eval()
    own = {"embed_tokens.weight": EMBEDDING, "lm_head.weight": HEAD, **case.tensors}
    missing, unexpected = model.load_state_dict(own, strict=False)
    assert not unexpected and all("verifier" in name or name in ("t2d", "d2t") or "rotary" in name for name in missing), (
        missing,
        unexpected,
    )
    length = anchor + rows + 1  # an anchor is taken only where its whole block lies inside the text
    padded, asked = torch.zeros(1, length, streams.shape[1]), torch.zeros(1, length)
    padded[0, :anchor], asked[0, anchor] = streams[:anchor], 1
    hidden, logits, *_, places = model._backbone_forward(
        hidden_states=padded,
        input_ids=torch.cat([ids, ids])[None, :length],
        loss_mask=asked,
        verifier_last_hidden_states=torch.zeros(1, length, EMBEDDING.shape[1]),
        document_ids=torch.zeros(1, length, dtype=torch.long),
        max_anchors=1,
    )
    assert int(places.flatten()[0]) == anchor, places
    filled = not case.config.get("sample_from_anchor")
    found = logits[0, int(filled) : rows]
    if kind == "dflash":
        return found, None
    before, read = ids[anchor : anchor + len(found)][None], hidden[:, int(filled) : rows]
    if kind == "dflash2":
        return among(*model.candidate_selector.select(found[None], read, before))[0], None
    found = found + model.markov_head.block_bias(prev_token_ids=before, hidden_states=read)[0]
    if model.confidence_head is None:
        return found, None
    return found, model.confidence_head(torch.cat([read, model.markov_head.prev_embeddings(before)], dim=-1))[0]


MODELS = {
    "dflash": (DFlashSpeculatorConfig, Speculator),
    "dflash2": (DFlash2SpeculatorConfig, Speculator2),
    "dspark": (DSparkSpeculatorConfig, DSparkDraftModel),
}


def qwen3(case: Case) -> Qwen3DSparkModel:
    """DeepSpec's Qwen3 class."""
    with tempfile.TemporaryDirectory() as folder:
        return Qwen3DSparkModel.from_pretrained(write(case, Path(folder)), attn_implementation="eager").eval()


class OfOneType(gemma4_modeling.Gemma4TextRotaryEmbedding):
    """Its class was written for transformers 5.10, whose rotary embedding is told its type of layer when it is made too."""

    def __init__(self, config: Gemma4TextConfig, layer_type: str) -> None:
        super().__init__(config)


def gemma4(case: Case) -> gemma4_modeling.Gemma4DSparkModel:
    """DeepSpec's Gemma 4 class."""
    extra = {"enable_moe_block": False, "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, "use_double_wide_mlp": False}
    config = Gemma4TextConfig(**{**case.config, **extra}, attn_implementation="sdpa")
    for key in ("num_global_key_value_heads", "global_head_dim"):
        setattr(config, key, case.config[key])
    gemma4_modeling.Gemma4TextRotaryEmbedding = OfOneType
    model = gemma4_modeling.Gemma4DSparkModel(config).float().eval()
    missing, unexpected = model.load_state_dict(case.tensors, strict=False)
    assert not unexpected and not [name for name in missing if "inv_freq" not in name and "embed_scale" not in name], (missing, unexpected)
    return model


def deepspec(case: Case, ids: Tensor, streams: Tensor, anchor: int, rows: int, *, own: bool = False) -> Found:
    """DeepSpec's class on one block, corrected along the text or, for `own`, along its guesses."""
    model = gemma4(case) if "gemma4" in case.name else qwen3(case)
    block = torch.tensor([[int(ids[anchor]), *[MASK] * (rows - 1)]])
    hidden = model._forward_backbone(
        target_hidden_states=streams[None, :anchor],
        noise_embedding=model.embed_tokens(block),
        position_ids=torch.arange(anchor + rows)[None],
        attention_mask=None,
        past_key_values=DynamicCache(),
        use_cache=True,
        is_causal=False,
    )
    scores = model.compute_logits(hidden)
    text = ids[None, anchor : anchor + rows]
    if own or model.markov_head is None:
        tokens, found = model.sample_draft_tokens(scores, first_prev_token_ids=block[:, 0], temperature=0.0, hidden_states=hidden)
        before = torch.cat([block[:, :1], tokens[:, :-1]], dim=1)
    else:
        before, found = text, model.markov_head.apply_block_logits(scores[:, None], token_ids=text[None], hidden_states=hidden[:, None])[0]
    sure = model.predict_confidence_step(hidden, prev_token_ids=before)
    return found[0], None if sure is None else sure[0]


@torch.no_grad()
def golden(case: Case, produced: Rows, name: str = "rows") -> dict[str, Tensor]:
    """Logits by rows of a block, and those of the confidence head."""
    ids, streams = seeded_ids(), torch.cat([seeded_stream(boundary) for boundary in case.boundaries], dim=-1)
    steps = {}
    for rows in (ROWS, SHORTER):
        found = [produced(case, ids, streams, anchor, rows) for anchor in ANCHORS]
        steps[f"{name}.{rows}"] = torch.stack([logits for logits, _ in found]).contiguous()
        if sure := [one for _, one in found if one is not None]:
            steps[f"confidence.{name}.{rows}"] = torch.stack(sure).contiguous()
    return steps


if __name__ == "__main__":
    torch.set_num_threads(1)
    HERE.mkdir(exist_ok=True)
    for name in sys.argv[1:] or CASES:
        path, case = HERE / f"{name}.safetensors", CASES[name]
        producer = next(made for made in (zlab, deepspec, speculators) if name.startswith(made.__name__))
        steps = golden(case, producer)
        if producer is deepspec or name.startswith("zlab-dflash2"):
            steps |= golden(case, partial(producer, own=True), "own")
        save_file(steps, path)
        path.chmod(0o644)
