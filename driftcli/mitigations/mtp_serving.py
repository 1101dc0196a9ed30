"""What to change so that an engine puts an MTP head or an assistant together otherwise: no engine has a switch for it, its class decides.

Read in vLLM 0.33 (model_executor/models/*_mtp.py), SGLang 0.5.23 (models/*_nextn.py, *_mtp.py) and transformers 5.24 (modeling_layers.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from driftcli.conditions import worded
from driftcli.mitigations.serving import NO_SWITCH, Engine

LINES: Mapping[str, str] = {
    "capture": "hand the first step the target's state in front of or behind its final norm: boundary {}",
    "feedback": "hand each further step the {} state of the one before",
    "order": "concatenate in the order {} in front of the projection",
    "gains": "read the gains of its norms as {}",
    "first_row": "leave the embedding of position 0 {}",
    "rotation": "turn {} of each head",
    "turned": "turn {} of each head's numbers: correct partial_rotary_factor in the config",
    "ones": "restore the gains of its {} norms in the file",
    "position": "let its queries stand at the position of {}",
    "rope": "correct rope_theta and rope_scaling in the config: {}",
}


def mtp_wiring(changes: Mapping[str, object]) -> dict[Engine, str]:
    """What to change in an engine's class, or in the files, given `Wiring.changes`."""
    said = "; ".join(LINES[name].format(worded(value)) for name, value in changes.items())
    text = f"{NO_SWITCH}: in the class of its head, {said}"
    return {"vllm": text, "sglang": text, "tensorrt-llm": text, "transformers": text}
