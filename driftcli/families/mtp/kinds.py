"""What every system does with the MTP head of each family; one row a family, read in vLLM 0.33, SGLang 0.5.23, transformers 5.24 and
llama.cpp (its threads alone).

A head is one decoder layer between a projection of (embedding, hidden state) and a norm; it reads the target's last hidden state, gives the
next state by its own, and shares the target's embedding and output head. The declared reading is the first of a row's systems.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from driftcli.conditions import Feedback, Rotation
from driftcli.domain import System

OWN_HEAD = "mtp"  # names the head that a target carries in the place of a drafter
VLLM: Final = "as_served:vllm"
SGLANG: Final = "as_served:sglang"
TRANSFORMERS: Final = "as_served:transformers"
LLAMA_CPP: Final = "as_served:llama.cpp"


@dataclass(frozen=True, slots=True)
class Served:
    """How a system runs a head.

    feedback: what is handed on, in front of (raw) or behind the head's final norm. handed: the same of the target's state at the first
    step. blanks_first: the embedding of row 0 is zeroed. rotation: which numbers turn together, where that is not the target's own way.
    by_depth: of several modules each guesses at a depth of its own; else the first is run again and again. wider: rows more in its windows.
    """

    feedback: Feedback = "normed"
    handed: Feedback = "normed"
    blanks_first: bool = False
    rotation: Rotation | None = None
    by_depth: bool = False
    wider: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """A family's head.

    types: of the text config. one_plus: gains are stored less one. hidden_first: the state comes first in the projection. rotation: of the
    target's own layers. turned: share of a head that RoPE turns where the config says nothing. normed: there is a final norm. own_head:
    each module brings its output head. still: nothing turns. sliding: its layer slides, whatever the config calls it. eps: the config's
    keys for the norms. sparse: the config's key for how many rows its layer attends to at most. latent_scaled: latents are multiplied by
    the root of width over rank. gated: queries come with a gate on what each head attends to.
    """

    name: str
    types: tuple[str, ...]
    served: Mapping[System, Served]
    one_plus: bool = False
    hidden_first: bool = False
    rotation: Rotation = "halves"
    turned: float = 1.0
    normed: bool = True
    own_head: bool = False
    still: bool = False
    sliding: bool = False
    eps: tuple[str, ...] = ("rms_norm_eps",)
    sparse: str = ""
    latent_scaled: bool = False
    gated: bool = False

    @property
    def declared(self) -> System:
        """The system whose way is taken unless another is asked for."""
        return next(iter(self.served))


POST, PRE = Served(), Served(feedback="raw", handed="raw")
BOTH: Mapping[System, Served] = {VLLM: POST, SGLANG: POST}
SEVERAL: Mapping[System, Served] = {VLLM: Served(by_depth=True), SGLANG: POST}
QWEN: Mapping[System, Served] = {**BOTH, LLAMA_CPP: POST}
DEEPSEEK: Mapping[System, Served] = {
    VLLM: Served(blanks_first=True, by_depth=True),
    SGLANG: POST,
    TRANSFORMERS: Served(by_depth=True),
    LLAMA_CPP: PRE,
}
WITHOUT_TRANSFORMERS: Mapping[System, Served] = {VLLM: DEEPSEEK[VLLM], SGLANG: POST}
GLM: Mapping[System, Served] = {**DEEPSEEK, VLLM: Served("raw", blanks_first=True, by_depth=True)}

LING = Kind("Ling 2.5 MTP head", ("bailing_moe_v2", "bailing_moe_v2_5", "bailing_hybrid"), WITHOUT_TRANSFORMERS, rotation="pairs")
KINDS: tuple[Kind, ...] = (
    Kind(
        "Qwen3.5 MTP head", ("qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_6", "qwen3_8"), QWEN,
        one_plus=True, turned=0.25, gated=True,
    ),
    Kind("Qwen3-Next MTP head", ("qwen3_next",), SEVERAL, True, turned=0.25, gated=True),
    Kind("GLM-4.5 MTP head", ("glm4_moe", "glm4v_moe_text"), GLM, turned=0.5),
    Kind("GLM-4.7-Flash MTP head", ("glm4_moe_lite",), {VLLM: GLM[VLLM], SGLANG: POST}),
    Kind("GLM-OCR MTP head", ("glm_ocr_text",), {VLLM: GLM[VLLM], SGLANG: POST}, rotation="pairs"),
    Kind("DeepSeek-V3 MTP head", ("deepseek_v3", "kimi_k2"), DEEPSEEK),
    Kind("DeepSeek-V3.2 MTP head", ("deepseek_v32",), WITHOUT_TRANSFORMERS, sparse="index_topk"),
    Kind("GLM-5 MTP head", ("glm_moe_dsa",), WITHOUT_TRANSFORMERS, sparse="index_topk"),
    Kind(
        "MiMo-7B MTP head", ("mimo",), {VLLM: Served(handed="raw", blanks_first=True), SGLANG: Served(blanks_first=True)}, hidden_first=True
    ),
    Kind(
        "MiMo-V2 MTP head", ("mimo_v2_flash", "mimo_v2"), {VLLM: POST, SGLANG: Served(wider=1)}, turned=0.334, sliding=True,
        eps=("layernorm_epsilon", "rms_norm_eps"),
    ),
    Kind(
        "ERNIE-4.5 MTP head", ("ernie4_5_moe",),
        {VLLM: Served("raw", blanks_first=True, rotation="halves"), SGLANG: Served("raw", blanks_first=True)},
        rotation="pairs", normed=False,
    ),
    Kind("EXAONE-MoE MTP head", ("exaone_moe",), {VLLM: SEVERAL[VLLM], SGLANG: Served(wider=1)}),
    Kind("EXAONE 4.5 MTP head", ("exaone4_5_text", "exaone4_5", "exaone4"), {VLLM: SEVERAL[VLLM]}),
    Kind("Hunyuan V3 MTP head", ("hy_v3",), {VLLM: Served(blanks_first=True, by_depth=True), SGLANG: POST}),
    Kind("Nemotron-H MTP head", ("nemotron_h",), BOTH, still=True, eps=("layer_norm_epsilon", "rms_norm_eps")),
    Kind(
        "Step-3.5 MTP head", ("step3p5", "step3p7", "step3p5_text", "step3p7_text"),
        {
            VLLM: Served("raw", "raw", by_depth=True),
            SGLANG: Served("raw", "raw", by_depth=True, wider=1),
            TRANSFORMERS: Served(by_depth=True),
        },
        one_plus=True, own_head=True,
    ),
    Kind("LongCat-Flash MTP head", ("longcat_flash",), BOTH, latent_scaled=True),
    LING,
)  # fmt: skip
LING_3 = Kind("Ling 3 MTP head", ("bailing_moe_v3",), {VLLM: Served(by_depth=True), SGLANG: POST}, rotation="pairs")
SPECULATORS = Kind("MTP head in speculators layout", (), {VLLM: POST, "as_trained": POST}, turned=0.25)
PLAIN = ("llama", "qwen2", "qwen3", "mistral")  # of targets around whose layer a head is trained that nobody publishes
TRAINED = Kind("MTP head in DeepSeek names", (), {"as_trained": POST})
REFUSED: Mapping[str, str] = {
    "deepseek_v4": "DeepSeek-V4's MTP head runs on several copies of the stream at once (hyper-connections)",
    "inkling": "Inkling's MTP head has learned relative positions and short convolutions",
    "inkling_text": "Inkling's MTP head has learned relative positions and short convolutions",
    "minimax_m3": "MiniMax-M3's MTP head attends to blocks of keys that an indexer picks",
    "minimax_m3_vl": "MiniMax-M3's MTP head attends to blocks of keys that an indexer picks",
    "minimax_m3_vl_text": "MiniMax-M3's MTP head attends to blocks of keys that an indexer picks",
    "hy_v4": "Hunyuan V4's MTP head runs on several copies of the stream at once (hyper-connections)",
}


def kind_of(model_type: str, parts: Mapping[str, str]) -> Kind | None:
    """The kind of a head beside a model of this type, None where it is of none that is measured; parts: its first module's tensors."""
    kind = next((kind for kind in (*KINDS, LING_3) if model_type in kind.types), None)
    if kind is LING and "self_attn.g_proj.weight" in parts:
        return LING_3
    if model_type in PLAIN and {"embedding_norm.weight", "self_attn.q_proj.weight"} <= parts.keys():
        return TRAINED
    return kind
