"""Probes and mitigations checked in one line, without a model: a few facts are given, and what is said of them comes back.

    from driftcli.testing import Head, compute_probe

    def test_a_state_that_grows_while_guesses_get_worse_is_drift():
        told = compute_probe(PROBE, head=Head(forced=(80, 72, 64, 56), growth=(1, 1.2, 1.4, 1.6)))
        assert told.codes == ["DRIFT-STATE"]

Facts are counts out of 100 anchors a prompt, by depth (`Head`), what other conditions keep of the baseline (`ratios`) or how a head fares
under them (`conditions`), the pair, and more: `Given` lists them; nothing is wrong with what is not given. Intervals are drawn by the same
bootstrap as in a run; of prompts that are all alike an interval is a point, so a threshold can be met by hand.

On the way the contract of `driftcli.probe.Probe` is checked, and ProbeError says what breaks it: names and axes are known, `conditions` and
`judge` say the same when they are asked again, codes exist, and no axis is called sound that was not declared.
"""

from __future__ import annotations

from driftcli.testing.computed import Told, Tried, compute_mitigation, compute_probe
from driftcli.testing.facts import Facts, Given, pair_card
from driftcli.testing.heads import Head

__all__ = ["Facts", "Given", "Head", "Told", "Tried", "compute_mitigation", "compute_probe", "pair_card"]
