"""What is to be written into a block drafter's files for each change of its wiring."""

from __future__ import annotations

from dataclasses import fields

from driftcli.conditions import Wiring
from driftcli.families.block.alternatives import ROPES
from driftcli.mitigations.block_serving import LINES, block_wiring
from driftcli.mitigations.serving import NO_SWITCH

OPEN = (
    Wiring(capture=(2, 5, 7)),
    Wiring(embedding="target's"),
    Wiring(head="target's"),
    Wiring(mask=3),
    Wiring(seen="causal"),
    Wiring(window="dropped"),
    Wiring(slots="their own place"),
    Wiring(rotation="pairs"),
    *(Wiring(rope=name) for name in ROPES),
    Wiring(eps=1e-05),
    Wiring(bias="left out"),
)


def test_every_change_that_is_tried_of_a_block_has_its_words() -> None:
    for wiring in OPEN:
        assert block_wiring(wiring.changes)["vllm"], wiring
    assert set(LINES) <= {field.name for field in fields(Wiring)}


def test_the_norms_number_is_a_key_and_a_harmful_bias_has_no_switch() -> None:
    said = block_wiring(Wiring(eps=1e-05, bias="left out").changes)["vllm"]
    assert '"rms_norm_eps": 1e-05 in the drafter\'s config.json' in said
    assert f"{NO_SWITCH}: a bias by the token before is left out nowhere; export markov_head again" in said
