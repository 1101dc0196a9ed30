"""A cure is what is shown: a longer acceptance length, or less lost to what was treated, with nothing shown to be worse."""

from __future__ import annotations

from pathlib import Path

from driftcli.healing.judged import Judged, judged
from driftcli.mitigations.treatment import Treatment
from tests.comparison.runs import SOUND, WORSE, written
from tests.report.synthetic import DRIFTING, Life, Recipe

SHALLOW = Life(fresh=0.4, lost=(0,) * 8)


def held(folder: Path, before: Recipe, after: Recipe, *treatments: Treatment) -> Judged:
    return judged(written(folder, before, "before"), written(folder, after, "after"), treatments)


def without_bos(fares: Life, life: Life = SOUND) -> Recipe:
    return Recipe(life, extra={"no-bos": ("template", fares)})


def test_a_longer_acceptance_length_is_a_cure_and_a_shorter_one_is_none(tmp_path: Path) -> None:
    healed = held(tmp_path / "one", Recipe(DRIFTING), Recipe(SOUND), "unroll")
    assert healed.cured
    assert healed.why.startswith("acceptance length: improved (+")
    worse = held(tmp_path / "two", Recipe(SOUND), Recipe(WORSE), "unroll")
    assert not worse.cured
    assert worse.why.startswith("acceptance length: regressed (-")


def test_less_lost_to_a_template_is_a_cure_of_that_treatment_alone(tmp_path: Path) -> None:
    healed = held(tmp_path / "one", without_bos(SHALLOW), without_bos(SOUND), "templates")
    assert healed.cured
    assert "; template: accepted draft tokens kept, no-bos: improved (+" in healed.why
    assert not held(tmp_path / "two", without_bos(SHALLOW), without_bos(SOUND), "unroll").cured
    assert not held(tmp_path / "three", without_bos(SHALLOW), without_bos(SHALLOW), "templates").cured


def test_what_one_template_gains_and_another_loses_is_no_cure(tmp_path: Path) -> None:
    before = Recipe(SOUND, extra={"no-bos": ("template", SHALLOW), "neither": ("template", SOUND)})
    after = Recipe(SOUND, extra={"no-bos": ("template", SOUND), "neither": ("template", SHALLOW)})
    assert not held(tmp_path, before, after, "templates").cured


def test_what_was_treated_does_not_pay_for_a_shorter_acceptance_length(tmp_path: Path) -> None:
    paid = held(tmp_path, without_bos(SHALLOW), without_bos(WORSE, WORSE), "templates")
    assert not paid.cured
    assert paid.why.startswith("acceptance length: regressed (-")
