"""What each system does with each family's head, typed a second time from the formats page: data, and nothing computed from the loader's own.

vLLM 0.33, SGLang 0.5.23, transformers 5.24; llama.cpp where it is known. A family that a system has no class for, or cannot run, has no row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Server = Literal["vllm", "sglang", "transformers", "llama.cpp"]


@dataclass(frozen=True)
class Does:
    """None: not known.

    feedback: before or behind the final norm. hand_in: the target's last stream, before or behind its final norm. zeroed: whether row 0's
    embedding is zero. layers: the first module at every depth, one a depth, or one a depth where several are stored and several drafted.
    steps: the most that it drafts, where that is bounded; `modules` is one a module.
    """

    feedback: Literal["raw", "normed"] | None
    hand_in: Literal["pre", "post"] | None
    zeroed: bool | None
    order: Literal["embedding, hidden", "hidden, embedding"] = "embedding, hidden"
    layers: Literal["first", "one a depth", "one a depth if several"] | None = "first"
    steps: Literal[1, "modules"] | None = None
    rope: Literal["neox", "interleaved"] | None = None  # where systems differ


SEVERAL: Literal["one a depth if several"] = "one a depth if several"
TRANSFORMERS = Does("normed", "post", False, layers="one a depth", steps="modules")
TABLE: dict[str, dict[Server, Does]] = {
    "deepseek_v3": {
        "vllm": Does("normed", "post", True, layers=SEVERAL),
        "sglang": Does("normed", "post", False),
        "transformers": TRANSFORMERS,
        "llama.cpp": Does(None, "pre", None, layers=None),
    },
    "deepseek_v32": {"vllm": Does("normed", "post", True, layers=SEVERAL), "sglang": Does("normed", "post", False)},
    "glm_moe_dsa": {"vllm": Does("normed", "post", True, layers=SEVERAL), "sglang": Does("normed", "post", False)},
    "glm4_moe": {
        "vllm": Does("raw", "post", True, layers=SEVERAL),
        "sglang": Does("normed", "post", False),
        "transformers": TRANSFORMERS,
        "llama.cpp": Does(None, "pre", None, layers=None),
    },
    "glm4_moe_lite": {"vllm": Does("raw", "post", True, layers=SEVERAL), "sglang": Does("normed", "post", False)},
    "qwen3_next": {"vllm": Does("normed", "post", False, layers=SEVERAL), "sglang": Does("normed", "post", False)},
    "qwen3_5": {
        "vllm": Does("normed", "post", False),
        "sglang": Does("normed", "post", False),
        "llama.cpp": Does(None, "post", None, layers=None),
    },
    "qwen3_5_moe": {
        "vllm": Does("normed", "post", False),
        "sglang": Does("normed", "post", False),
        "llama.cpp": Does(None, "post", None, layers=None),
    },
    "mimo": {
        "vllm": Does("normed", "pre", True, "hidden, embedding", steps=1),
        "sglang": Does("normed", "post", True, "hidden, embedding"),
    },
    "mimo_v2_flash": {"vllm": Does("normed", "post", False), "sglang": Does("normed", "post", False)},
    "ernie4_5_moe": {
        "vllm": Does("raw", "post", True, steps=1, rope="neox"),
        "sglang": Does("raw", "post", True, steps=1, rope="interleaved"),
    },
    "nemotron_h": {"vllm": Does("normed", "post", False, steps=1), "sglang": Does("normed", "post", False)},
    "step3p5": {
        "vllm": Does("raw", "pre", False, layers="one a depth"),
        "sglang": Does("raw", "pre", False, layers="one a depth"),
        "transformers": TRANSFORMERS,
    },
    "hy_v3": {"vllm": Does("normed", "post", True, layers=SEVERAL), "sglang": Does("normed", "post", False)},
    "bailing_moe_v2": {"vllm": Does("normed", "post", True, layers=SEVERAL), "sglang": Does("normed", "post", False)},
    "bailing_moe_v3": {"vllm": Does("normed", "post", False, layers=SEVERAL), "sglang": Does("normed", "post", None)},
    "exaone_moe": {"vllm": Does("normed", "post", False, layers=SEVERAL), "sglang": Does(None, None, False)},
    "exaone4_5": {"vllm": Does("normed", "post", False, layers=SEVERAL), "sglang": Does(None, None, False)},
    "longcat_flash": {"vllm": Does("normed", "post", False), "sglang": Does("normed", "post", False)},
}
MIMO_V2_BY_LAYER_WORKER = Does("raw", "pre", False, layers="one a depth")  # SGLang's worker for several modules, of MiMo-V2
OWN_HEADS = ("step3p5",)  # read by both servers; transformers reads the target's. All others: the target's, whatever the file holds
ONE_PLUS = ("qwen3_next", "qwen3_5", "qwen3_5_moe", "step3p5")  # gains stored less one
NO_FINAL_NORM = ("ernie4_5_moe",)
