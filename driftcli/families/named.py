"""Every family of drafters by name: how its files are told, who serves it, and what is said to somebody who brings one.

Tensors tell a family first; a config or a file's name only names what is there where no tensor does. Rows stand from the particular to the
general: the first that fits is the family. Families that are measured have their layouts in `driftcli.families.formats`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch

from driftcli.sources.files import Json


@dataclass(frozen=True, slots=True)
class Named:
    """A family that is known and not measured.

    name: as its authors call it. holds: what a checkpoint of it holds. does: how it drafts. drift: whether drift is defined for it, and
    why. served: by whom, as what. instead: what would work. tensors: patterns, each of which must be found among the names; config: keys,
    any of which names it, as `key`, `outer.key` or `key=value`; files: names, any of which does. inside: whether its tensors may stand
    beside those of a whole model, which is then a model that carries one.
    """

    name: str
    holds: str
    does: str
    drift: str
    served: str
    instead: str
    tensors: tuple[str, ...] = ()
    config: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    inside: bool = False

    def sentence(self, source: str, proof: str) -> str:
        """What is said to somebody who brings one."""
        return (
            f"{source}: holds {self.holds} ({proof}), which {self.does}; drift is {self.drift}; not measured here yet, "
            f"served by {self.served}: {self.instead}"
        )

    def proof(self, names: Collection[str]) -> str:
        """The tensors that tell it, empty where they do not."""
        found = [next((name for name in names if re.search(pattern, name)), "") for pattern in self.tensors]
        return ", ".join(found[:2]) if all(found) else ""

    def word(self, config: Mapping[str, Json], files: Iterable[str]) -> str:
        """The config's key or the file that names it, empty where none does."""
        key = next((key for key in self.config if _is_set(config, key)), "")
        file = next((file for file in sorted(files) if any(fnmatch(file, known) for known in self.files)), "")
        return f"{key} in config.json" if key else file


def _is_set(config: Mapping[str, Json], asked: str) -> bool:
    path, _, wanted = asked.partition("=")
    value: Json | Mapping[str, Json] = config
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    if not wanted:
        return value not in (None, False, 0, "", [], {})
    return any(isinstance(one, str) and one.lower() == wanted.lower() for one in (value if isinstance(value, list) else [value]))


BLOCK = "drafts a block of tokens in one pass over mask tokens"
NO_STATE = "not defined for it, as it feeds no state of its own back"
NO_ATTENTION = "not defined for it, as what it feeds back passes no attention"
FED_BACK = "defined for it, as it feeds its own state back"
EAGLE_HERE = "an EAGLE head for the same target can be measured here"
COUNTERS = "the server's own counters tell what it accepts"
NAMED: tuple[Named, ...] = (
    Named(
        "DSpark of DeepSeek-V4",
        "a DSpark drafter of DeepSeek-V4",
        BLOCK,
        NO_STATE,
        "vLLM's method dspark",
        COUNTERS,
        tensors=(r"^mtp\.\d+\.main_proj\.",),
        config=("dspark_block_size",),
    ),
    Named(
        "Domino",
        "a Domino drafter",
        f"{BLOCK} and corrects it token by token with a recurrent cell",
        NO_ATTENTION,
        "SGLang's DFLASH",
        COUNTERS,
        tensors=(r"(^|\.)(domino_head|prefix_gru)\.",),
        config=("architectures=DominoDraftModel", "dflash_config.projector_type=domino"),
    ),
    Named(
        "XPress",
        "an XPress drafter",
        BLOCK,
        NO_STATE,
        "vLLM's method dflash under its own names",
        COUNTERS,
        tensors=(r"(^|\.)(refiner_head|xpress_head)\.",),
        config=("speculators_model_type=xpress",),
    ),
    Named(
        "LiLiCorr",
        "a LiLiCorr drafter",
        f"{BLOCK} and chooses among their best by a small attention over these",
        NO_STATE,
        "vLLM's method dflash",
        COUNTERS,
        tensors=(r"(^|\.)lilicorr\.",),
        config=("architectures=LiLiCorrDraftModel",),
    ),
    Named(
        "DFlash of Laguna",
        "a DFlash drafter of Laguna's own kind",
        f"{BLOCK}, with norms of each stream and gated attention",
        NO_STATE,
        "vLLM's method dflash",
        COUNTERS,
        tensors=(r"(^|\.)aux_hidden_norms\.",),
    ),
    Named(
        "Muse-Glimmer assistant",
        "a Muse-Glimmer assistant",
        f"{BLOCK} as DFlash does, under names of its own",
        NO_STATE,
        "vLLM's method dflash, and transformers",
        "the same weights in z-lab's layout can be measured here",
        tensors=(r"(^|\.)encoder\.output_norm_enc\.",),
        config=("model_type=muse_glimmer_assistant",),
    ),
    Named(
        "Arctic speculator",
        "an Arctic speculator",
        "carries a state from token to token through an LSTM or feed-forward layers",
        NO_ATTENTION,
        "vLLM with Arctic Inference",
        EAGLE_HERE,
        tensors=(r"^(forget_emb|input_emb|cell_emb)\.",),
        config=("method=sum_lstm", "method=sum_rnn"),
    ),
    Named(
        "MiniCPM EAGLE",
        "an EAGLE head of MiniCPM's own kind",
        "norms both of its inputs and scales as MiniCPM does",
        FED_BACK,
        "vLLM's method eagle",
        EAGLE_HERE,
        tensors=(r"^input_norm1\.weight$", r"^input_norm2\.weight$"),
        config=("architectures=EagleMiniCPMForCausalLM",),
    ),
    Named(
        "EAGLE in Mistral's layout",
        "an EAGLE head in Mistral's own layout",
        "names its tensors and settings (params.json) as no transformers model does",
        FED_BACK,
        "vLLM's method eagle",
        EAGLE_HERE,
        tensors=(r"^eagle_linear\.",),
    ),
    Named(
        "FR-Spec token map",
        "a list of frequent tokens",
        "shortens the vocabulary of an EAGLE head and drafts nothing itself",
        "defined for that head alone",
        "SGLang's --speculative-token-map beside EAGLE",
        "the head that it goes with can be measured here",
        files=("freq_*.pt",),
    ),
    Named(
        "MTP head",
        "an MTP head",
        "guesses a token more from the target's last hidden state and its next token, and is run again on what it made",
        FED_BACK,
        "vLLM's method mtp and SGLang's NEXTN",
        EAGLE_HERE,
        tensors=(r"(^|\.)(eh_proj|mtp|mtp_layers|mtp_block|mtp_emb_norm|mtp_linear_proj)\.",),
        config=("speculators_model_type=mtp",),
        inside=True,
    ),
    Named(
        "Mistral's layout",
        "a model in Mistral's own layout",
        "names its tensors and settings as no transformers model does",
        "defined or not by the model inside",
        "vLLM",
        "the same model in transformers' layout can be measured here",
        files=("params.json",),
    ),
    Named(
        "GGUF",
        "a model in llama.cpp's GGUF format",
        "llama.cpp and its kin read",
        "defined or not by the model inside",
        "llama.cpp",
        "fetch the file and name its path, or the folder of the safetensors that it was converted from",
        files=("*.gguf",),
    ),
)
