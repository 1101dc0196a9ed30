"""The battery: one question a module, in the order in which they are judged."""

from __future__ import annotations

from driftcli.probe import Probe
from probes.chain_length import ChainLength
from probes.magnitude import Magnitude
from probes.noise import InputNoise
from probes.streams import Streams

BATTERY: tuple[Probe, ...] = (ChainLength(), Streams(), InputNoise(), Magnitude())
QUICK = ("chain-length", "streams")  # names of those that --quick runs: what the baseline alone tells
