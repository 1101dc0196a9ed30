"""The class that each server builds for a head, which `architectures` alone decides, and whether that class reads these tensors.

Classes by name stand in `servers.json`, read from the servers' wheels. What a class reads was read in its source, not run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from driftcli.families.eagle.anatomy import Anatomy
from driftcli.families.eagle.capture_layers import reads_last_state
from driftcli.families.record import Record

Server = Literal["vllm", "sglang"]
NAMES: Mapping[Server, str] = {"vllm": "vLLM", "sglang": "SGLang"}
SPECULATORS = {"llama": "Eagle3LlamaForCausalLM", "qwen3": "Eagle3Qwen3ForCausalLM"}  # vLLM's, by the nested model_type
REWRITTEN = ("deepseek_v3", "deepseek_v32", "glm_moe_dsa", "deepseek_v4", "deepseek_v41")
PARALLEL = {"llama": "PeagleLlamaForCausalLM", "qwen3": "PeagleQwen3ForCausalLM"}  # the same of P-EAGLE
COUNT_AT_THE_TOP: Mapping[Server, tuple[str, ...]] = {
    "vllm": ("Eagle3Qwen3ForCausalLM",),
    "sglang": ("Eagle3DeepseekV2ForCausalLM",),
}  # classes that count layer ids at the top level too
USUAL_STREAMS = 3  # that both servers build fc for where no key says how many


@dataclass(frozen=True, slots=True)
class Class:
    """What a server's class reads: heads of which family, with which attention, and norms of queries and keys."""

    family: Literal["eagle3", "eagle"]
    attention: Literal["grouped", "latent"]
    normed_heads: bool = False


CLASSES: Mapping[str, Class] = {
    "llama_eagle3.Eagle3LlamaForCausalLM": Class("eagle3", "grouped"),
    "qwen3_eagle3.Eagle3Qwen3ForCausalLM": Class("eagle3", "grouped", normed_heads=True),
    "deepseek_eagle3.Eagle3DeepseekV2ForCausalLM": Class("eagle3", "latent"),
    "llama_eagle.EagleLlamaForCausalLM": Class("eagle", "grouped"),
    "llama_eagle3.LlamaForCausalLMEagle3": Class("eagle3", "grouped"),
    "kimi_k25_eagle3.Eagle3DeepseekV2ForCausalLM": Class("eagle3", "latent"),
    "llama_eagle.LlamaForCausalLMEagle": Class("eagle", "grouped"),
    "qwen2_eagle.Qwen2ForCausalLMEagle": Class("eagle", "grouped"),
}
WRITE: Mapping[tuple[str, str], Mapping[Server, str]] = {  # the name that each server needs, by family and attention
    ("eagle3", "grouped"): {"vllm": "LlamaForCausalLMEagle3", "sglang": "LlamaForCausalLMEagle3"},
    ("eagle3", "latent"): {"vllm": "Eagle3DeepseekV2ForCausalLM", "sglang": "Eagle3DeepseekV2ForCausalLM"},
    ("eagle", "grouped"): {"vllm": "LlamaForCausalLM", "sglang": "LlamaForCausalLMEagle"},
}


@cache
def _table() -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    found: Mapping[str, Mapping[str, Mapping[str, str]]] = json.loads((files("driftcli.families") / "servers.json").read_text("utf-8"))
    return found


def version(server: Server) -> str:
    """The server with the release whose classes are known, such as `vLLM 0.33.0`."""
    return f"{NAMES[server]} {_table()[server]['version']}"


def asked_for(server: Server, record: Record, layers: Record, family: str, *, speculators: bool) -> str | None:
    """The name under which the server looks for a class; None where nothing names one."""
    if speculators:
        classes = PARALLEL if record.config.get("speculators_model_type") == "peagle" else SPECULATORS
        return classes.get(str(layers.config.get("model_type", "llama"))) if server == "vllm" else None
    named = record.config.get("architectures") if record.config.get("architectures") else layers.config.get("architectures")
    first = named[0] if isinstance(named, list) and named and isinstance(named[0], str) else None
    if first is None or server == "sglang":
        return first
    prefix = "Eagle3" if family == "eagle3" else "Eagle"
    return first if first.startswith(prefix) or (family == "eagle3" and first.endswith("Eagle3")) else f"{prefix}{first}"


def built(server: Server, asked: str | None) -> str | None:
    """Module and class that the server builds for a name, None for a name that it does not know."""
    return None if asked is None else _table()[server]["classes"].get(asked)


def refusal(server: Server, asked: str | None, record: Record, layers: Record, a: Anatomy) -> str:
    """Why the server cannot build the class, or why that class does not read these tensors; empty where it does."""
    needed = _needed(server, a)
    write = f"; write {needed} into architectures" if needed else f"; {NAMES[server]} has no class for such a head"
    if asked is None:
        return f"config.json names no architectures, by which {version(server)} picks a class{write}"
    found = [_misread(server, asked, a, write), _misfit(server, asked, record, layers, a)]
    found += [_sglang_head(asked, layers, a)] if server == "sglang" else [_vllm_type(layers), _vllm_map(a)]
    return "; and ".join(filter(None, found))


def _needed(server: Server, a: Anatomy) -> str | None:
    """The name from which the server builds a class that reads such a head, None where there is none."""
    if a.sandwiched:
        return None
    if a.has(r"self_attn\.[qk]_norm"):
        return "Eagle3Qwen3ForCausalLM" if server == "vllm" and a.family == "eagle3" else None
    return WRITE.get((a.family, a.heads.kind), {}).get(server)


def _misread(server: Server, asked: str, a: Anatomy, write: str) -> str:
    """That there is no such class, or that it does not read such a head."""
    name = built(server, asked)
    if name is None:
        return f"{version(server)} knows no {asked}{write}"
    kind = CLASSES.get(name)
    if kind is None or kind.family != a.family:
        thread = " (sglang#5448)" if server == "sglang" else ""
        return f"from {asked} {version(server)} builds {name.split('.')[1]}, which reads no such head{thread}{write}"
    if kind.attention != a.heads.kind:
        return f"{version(server)} builds {asked}, which has {kind.attention} keys, and the file {a.heads.kind} ones{write}"
    return _heads(server, asked, kind, a, write)


def _heads(server: Server, asked: str, kind: Class, a: Anatomy, write: str) -> str:
    """Norms of queries and keys that the class lacks, or that the file does."""
    has = a.has(r"self_attn\.[qk]_norm")
    if has and not kind.normed_heads:
        return f"{version(server)} builds {asked}, which has no place for q_norm and k_norm{write}"
    if kind.normed_heads and not has:
        return f"{version(server)} builds {asked}, whose q_norm and k_norm the file lacks: they would norm with gain 1{write}"
    return ""


def _vllm_type(layers: Record) -> str:
    """vLLM turns some types into its MTP class before it asks by which method the head drafts."""
    kind = layers.config.get("model_type")
    if kind not in REWRITTEN:
        return ""
    return f"model_type is {kind}, which {version('vllm')} takes for an MTP head whatever the method; write kimi_k2 or deepseek_v2"


def _vllm_map(a: Anatomy) -> str:
    """vLLM has a place for d2t only where the draft vocabulary is not the target's."""
    if a.family == "eagle" or "d2t" not in a.names or a.draft_vocabulary != a.vocabulary:
        return ""
    return f"drafts from all {a.vocabulary} tokens and holds d2t all the same, for which {version('vllm')} then has no place; leave it out"


def _misfit(server: Server, asked: str, record: Record, layers: Record, a: Anatomy) -> str:
    """More layers than are stored, or another number of streams."""
    declared = layers.get("num_hidden_layers")
    if isinstance(declared, int) and declared > a.layers:
        return (
            f"num_hidden_layers is {declared}, and {version(server)} builds as many, of which the file fills {a.layers} (BaldEagle#6); "
            f"set num_hidden_layers to {a.layers}"
        )
    streams = _streams(record, top=asked in COUNT_AT_THE_TOP[server])
    if a.family == "eagle3" and not reads_last_state(record) and a.streams != streams:
        return (
            f"{version(server)} builds fc for {streams} streams of the target, and the file has {a.streams}; "
            f"set num_aux_hidden_states to {a.streams}"
        )
    return ""


def _streams(record: Record, *, top: bool) -> int:
    """Streams that fc is built for: a number, else as many as the nested layer ids, for some classes those at the top level, else three."""
    number, key = record.config.get("num_aux_hidden_states"), "eagle_aux_hidden_state_layer_ids"
    if isinstance(number, int) and not isinstance(number, bool):
        return number
    places = (record.within("eagle_config").config, *([record.config] if top else []))
    return next((len(ids) for place in places if isinstance(ids := place.get(key), list) and ids), USUAL_STREAMS)


def _sglang_head(asked: str, layers: Record, a: Anatomy) -> str:
    """What SGLang makes of the output head: tied it takes the embedding, otherwise it needs draft_vocab_size, and with that lm_head too."""
    if a.family == "eagle":
        return ""
    key = "draft_vocab_size"
    named, own = layers.get(key) is not None, "lm_head.weight" in a.names
    if layers.is_on("tie_word_embeddings"):
        if a.draft_vocabulary == a.vocabulary:
            return ""
        return (
            f"tie_word_embeddings is true, so {version('sglang')} takes all {a.vocabulary} rows of the embedding for the output head and "
            f"leaves out the file's {a.draft_vocabulary} (AngelSlim#16); set tie_word_embeddings to false"
        )
    if key not in layers.config and asked == "LlamaForCausalLMEagle3":
        rows = a.draft_vocabulary if own else "null"
        return f"config.json names no {key}, which {version('sglang')} reads without a default; add it ({rows})"
    if named and not own:
        return (
            f"{key} is in the config and lm_head is not in the file: {version('sglang')} then keeps an output head that nothing fills "
            f"(sglang#27829); set {key} to null, which takes the target's"
        )
    return ""
