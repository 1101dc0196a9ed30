"""How far the rows of two runs of the same request lie apart, of another dtype or device: `python -m tests.benchmarks.rows_apart RUN OTHER`

Prints, of the baseline's rows that both have: the share whose wanted, and whose drafted token is the same, the share of anchors that accept
as many draft tokens, and how far apart states and probabilities are at most where the tokens are the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

KEYS = ["prompt", "turn", "feed", "anchor", "depth"]
NUMBERS = ["rms", "target_prob", "draft_prob"]


def rows(run: Path) -> pd.DataFrame:
    """The baseline's rows of `steps`."""
    files = sorted((run / "steps").glob("baseline-*.parquet"))
    frame = pd.concat([pq.read_table(file, columns=[*KEYS, "drafted", "wanted", "match", *NUMBERS]).to_pandas() for file in files])
    return frame.astype({"prompt": str, "feed": str})


def accepted(frame: pd.DataFrame, match: str) -> pd.Series:
    """Draft tokens accepted at each anchor: those of its forced chain before the first miss."""
    chains = frame[frame.feed == "forced"].sort_values("depth")
    return chains.groupby([*KEYS[:2], "anchor"])[match].agg(lambda hits: int(hits.astype(bool).cumprod().sum()))


def main() -> None:
    """Compare the runs in two folders."""
    one, other = (rows(Path(name)) for name in sys.argv[1:3])
    both = one.merge(other, on=KEYS, suffixes=("", "_other"))
    print(f"{len(both):,} rows in both, of {len(one):,} and {len(other):,}")
    for name in ("wanted", "drafted"):
        print(f"{name:12} the same in {(both[name].eq(both[name + '_other']) | both[name].isna()).mean():.2%}")
    print(f"{'accepted':12} as many at {(accepted(both, 'match') == accepted(both, 'match_other')).mean():.2%} of the anchors")
    same = both[both.drafted == both.drafted_other]
    for name in NUMBERS:
        print(f"{name:12} apart by {(same[name] - same[name + '_other']).abs().max():.2g} at most, where the draft tokens are the same")


if __name__ == "__main__":
    main()
