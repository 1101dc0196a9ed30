"""The battery: one question a module, in the order in which they are judged."""

from __future__ import annotations

from driftcli.probe import Probe
from probes.block_independence import BlockIndependence
from probes.chain_length import ChainLength
from probes.confidence import Confidence
from probes.context_length import ContextLength
from probes.controls import Controls
from probes.domain import DomainShift
from probes.held_state import HeldState
from probes.magnitude import Magnitude
from probes.noise import InputNoise
from probes.position_range import PositionRange
from probes.reply_position import ReplyPosition
from probes.sampling import Sampling
from probes.streams import Streams
from probes.switches import Switches
from probes.system_prompt import SystemPrompt
from probes.target_shift import TargetShift
from probes.template import TemplateChanges
from probes.vocabulary import VocabularyCoverage
from probes.wiring import WiringSearch

BATTERY: tuple[Probe, ...] = (
    WiringSearch(),
    PositionRange(),
    Controls(),
    ChainLength(),
    BlockIndependence(),
    Streams(),
    TemplateChanges(),
    SystemPrompt(),
    ContextLength(),
    ReplyPosition(),
    DomainShift(),
    TargetShift(),
    VocabularyCoverage(),
    Confidence(),
    Sampling(),
    InputNoise(),
    Magnitude(),
    HeldState(),
    Switches(),
)
# Names of those that --quick runs.
QUICK = (
    "wiring",
    "position-range",
    "controls",
    "chain-length",
    "block-independence",
    "streams",
    "template",
    "reply-position",
    "vocabulary",
    "confidence",
    "held-state",
    "switches",
    "mitigations",
)
