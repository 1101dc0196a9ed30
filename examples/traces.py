"""Five questions to the traces of a run, each answered with pandas and again with DuckDB alone, which needs nothing of driftcli.

    python examples/traces.py runs/llama

1. Where in the reply do drafts get lost?
2. Which tokens end chains?
3. Does the target's entropy explain the misses?
4. Which heads look at the sink, and do they still do so deeper in the chain?
5. What would a draft length of 3 give?
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import pandas as pd

DRAFT_LENGTH = 3
PART = 32  # tokens of a reply that are taken together


def opened(run: Path) -> dict[str, pd.DataFrame]:
    """The baseline's rows of each table, read by pandas; `driftcli.open_run(run).table(name)` gives them as Arrow datasets."""
    names = {"trajectories": "trajectories", "steps": "steps", "heads": "heads"}
    files = {name: sorted((run / folder).glob("baseline-*.parquet")) for name, folder in names.items()}
    tables = {name: pd.concat(pd.read_parquet(file) for file in found) for name, found in files.items()}
    tables = {name: table.astype({one: str for one in ("prompt", "feed") if one in table}) for name, table in tables.items()}
    pieces = run / "pieces.parquet"
    return {**tables, "pieces": pd.read_parquet(pieces) if pieces.exists() else pd.DataFrame({"id": [], "bytes": []})}


def connected(run: Path) -> duckdb.DuckDBPyConnection:
    """DuckDB with the same tables as views over the run's files."""
    connection = duckdb.connect()
    quoted = str(run).replace("'", "''")
    for name in ("trajectories", "steps", "heads"):
        connection.execute(f"create view {name} as select * from read_parquet('{quoted}/{name}/baseline-*.parquet')")
    known = (
        f"read_parquet('{quoted}/pieces.parquet')" if (run / "pieces.parquet").exists() else "(select 0 as id, ''::blob as bytes limit 0)"
    )
    connection.execute(f"create view pieces as select * from {known}")
    return connection


# 1 ---- of the rounds of decoding that begin in each part of the reply, how many draft tokens are accepted

LOST = f"""
with kept as (  -- draft tokens before the first miss, of each round that decoding makes
    select prompt, turn, anchor, coalesce(min(depth) filter (not match) - 1, max(depth)) as accepted
    from steps where feed = 'forced' and on_walk group by all
)
select (anchor - prompt_length) // {PART} * {PART} as from_token, count(*) as rounds, avg(accepted) as accepted
from kept join trajectories using (prompt, turn) group by from_token order by from_token
"""


def lost(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Rounds and mean accepted draft tokens by where in the reply the round begins."""
    steps = tables["steps"].query("feed == 'forced' and on_walk").sort_values("depth")
    kept = steps.groupby(["prompt", "turn", "anchor"])["match"].agg(lambda match: int(match.astype(int).cumprod().sum())).rename("accepted")
    placed = kept.reset_index().merge(tables["trajectories"][["prompt", "turn", "prompt_length"]], on=["prompt", "turn"])
    placed["from_token"] = (placed["anchor"] - placed["prompt_length"]) // PART * PART
    return placed.groupby("from_token")["accepted"].agg(rounds="count", accepted="mean").reset_index()


# 2 ---- the tokens that stood where a round's first wrong draft token was

ENDING = """
with misses as (
    select wanted, row_number() over (partition by prompt, turn, anchor order by depth) as place
    from steps where feed = 'forced' and on_walk and not match
)
select wanted as id, try(decode(bytes)) as token, count(*) as chains from misses left join pieces on id = wanted
where place = 1 group by wanted, bytes order by chains desc, id limit 10
"""


def ending(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The ten tokens that most often stood where a chain was first wrong."""
    misses = tables["steps"].query("feed == 'forced' and on_walk and match == False").sort_values("depth")
    first = misses.groupby(["prompt", "turn", "anchor"]).first().astype({"wanted": int})
    counted = first.groupby("wanted").size().rename("chains").rename_axis("id").reset_index()
    texts = {number: text.decode(errors="replace") for number, text in zip(tables["pieces"]["id"], tables["pieces"]["bytes"], strict=True)}
    counted.insert(1, "token", counted["id"].map(texts))
    return counted.sort_values(["chains", "id"], ascending=[False, True]).head(10).reset_index(drop=True)


# 3 ---- right first guesses by how unsure the target was of the token

UNSURE = """
with tokens as (
    select prompt, turn, prompt_length + generate_subscripts(target_entropy, 1) - 1 as position, unnest(target_entropy) as nats
    from trajectories
)
select ntile as quarter, count(*) as guesses, avg(nats) as entropy, avg(match::int) as right_share from (
    select nats, match, ntile(4) over (order by nats, prompt, turn, anchor) as ntile
    from steps join tokens using (prompt, turn) where position = anchor + 1 and feed = 'forced' and depth = 1
) group by ntile order by ntile
"""


def unsure(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Share of right first guesses in four parts of equal size by the target's entropy, in nats, the surest first."""
    texts = tables["trajectories"][["prompt", "turn", "prompt_length", "target_entropy"]].explode("target_entropy", ignore_index=True)
    texts["anchor"] = texts["prompt_length"] + texts.groupby(["prompt", "turn"]).cumcount() - 1
    first = tables["steps"].query("feed == 'forced' and depth == 1").merge(texts, on=["prompt", "turn", "anchor"])
    first = first.astype({"target_entropy": float, "match": int}).sort_values(
        ["target_entropy", "prompt", "turn", "anchor"], ignore_index=True
    )
    large, rest = len(first) % 4, len(first) // 4
    sizes = [rest + (number < large) for number in range(4)]
    first["quarter"] = [number + 1 for number, size in enumerate(sizes) for _ in range(size)]
    found = first.groupby("quarter").agg(guesses=("match", "size"), entropy=("target_entropy", "mean"), right_share=("match", "mean"))
    return found.reset_index()


# 4 ---- attention on the sink by layer and head, at the first depth and at the last

SINK = """
select layer, head, sum(share_sink * anchors) filter (depth = 1) / sum(anchors) filter (depth = 1) as first_depth,
       sum(share_sink * anchors) filter (depth = last) / sum(anchors) filter (depth = last) as last_depth
from heads, (select max(depth) as last from heads) where feed = 'forced' and share_sink is not null
group by all order by first_depth desc, layer, head
"""


def sink(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Share of attention on the sink of every head, mean over anchors, those that look there most first; empty without a sink."""
    heads = tables["heads"].query("feed == 'forced'").dropna(subset=["share_sink"]).astype({"share_sink": float})
    depths = {"first_depth": 1, "last_depth": tables["heads"]["depth"].max()}
    by = {
        name: heads[heads["depth"] == depth].assign(on=lambda rows: rows["share_sink"] * rows["anchors"]) for name, depth in depths.items()
    }
    sums = {name: rows.groupby(["layer", "head"])[["on", "anchors"]].sum() for name, rows in by.items()}
    found = (
        pd.DataFrame({name: total["on"] / total["anchors"] for name, total in sums.items()}).rename_axis(["layer", "head"]).reset_index()
    )
    return found.sort_values(["first_depth", "layer", "head"], ascending=[False, True, True], ignore_index=True)


# 5 ---- decoding again along the same texts with shorter chains: each round goes on behind what it kept and the bonus token

SHORTER = f"""
with recursive kept as (
    select prompt, turn, anchor, coalesce(min(depth) filter (not match) - 1, {DRAFT_LENGTH}) as accepted
    from steps where feed = 'forced' and depth <= {DRAFT_LENGTH} group by all
), rounds as (
    select prompt, turn, anchor, accepted from kept join trajectories using (prompt, turn) where anchor = prompt_length
    union all
    select kept.prompt, kept.turn, kept.anchor, kept.accepted from rounds
    join kept on kept.prompt = rounds.prompt and kept.turn = rounds.turn and kept.anchor = rounds.anchor + rounds.accepted + 1
)
select count(*) as rounds, sum(accepted)::bigint as accepted, 1 + sum(accepted) / count(*) as acceptance_length from rounds
"""


def shorter(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Rounds, accepted draft tokens and acceptance length of decoding with `DRAFT_LENGTH` draft tokens a round."""
    steps = tables["steps"].query(f"feed == 'forced' and depth <= {DRAFT_LENGTH}").sort_values(["anchor", "depth"])
    rounds = accepted = 0
    for _, rows in steps.groupby(["prompt", "turn"]):
        kept = rows.groupby("anchor")["match"].agg(lambda match: int(match.astype(int).cumprod().sum()))
        anchor = kept.index[0]
        while anchor in kept.index:
            rounds, accepted = rounds + 1, accepted + int(kept[anchor])
            anchor += kept[anchor] + 1
    return pd.DataFrame({"rounds": [rounds], "accepted": [accepted], "acceptance_length": [1 + accepted / rounds]})


Question = tuple[str, Callable[[dict[str, pd.DataFrame]], pd.DataFrame], str]
QUESTIONS: Sequence[Question] = (
    ("Where in the reply do drafts get lost?", lost, LOST),
    ("Which tokens end chains?", ending, ENDING),
    ("Does the target's entropy explain the misses?", unsure, UNSURE),
    ("Which heads look at the sink, first and deepest?", sink, SINK),
    (f"What would a draft length of {DRAFT_LENGTH} give?", shorter, SHORTER),
)


def main() -> None:
    """Print every answer, by pandas and by DuckDB."""
    parser = argparse.ArgumentParser(description="Five questions to the traces of a run.")
    parser.add_argument("run", type=Path, help="Run folder that diagnose wrote.")
    run = parser.parse_args().run
    tables, connection = opened(run), connected(run)
    for question, by_pandas, query in QUESTIONS:
        print(f"{question}\n\npandas\n{by_pandas(tables).to_string(index=False)}\n\nDuckDB\n{connection.sql(query)}\n")


if __name__ == "__main__":
    main()
