#!/usr/bin/env bash
# Every figure that a GPU is asked for, in one go of under 12 minutes: tests/benchmarks/gpu.sh [OUT]; SMALL=1 tries the script on a CPU.
#
# Goals on an H100: the bundled pair under 10 s; of an 8B pair 25 ms a step of writing at batch 40, a baseline within 1.2 of its own writing,
# --quick in 35 s; float32 rows on the GPU those of the CPU but for digits.
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${1:-${OUT:-/tmp/driftcli-gpu}}
mkdir -p "$out"
export PYTHONPATH="$PWD" TOKENIZERS_PARALLELISM=false
device=cuda small=()
[ -n "${SMALL:-}" ] && device=cpu small=(--small)
few=()
[ -n "${SMALL:-}" ] && few=(--limit 8 --max-new-tokens 24)
pair=(--target "$out/pair/target" --drafter "$out/pair/head")

say() { echo; echo "== $*"; }
timed() { # NAME SECONDS-AT-MOST COMMAND: what it printed goes into a file of that name, its time to stdout
  local name=$1 most=$2 began=$SECONDS code=0
  shift 2
  local start=$(date +%s.%N)
  timeout "$most" "$@" >"$out/$name.txt" 2>"$out/$name.log" || code=$?
  printf '%-28s %7.1f s, exit %d\n' "$name" "$(echo "$(date +%s.%N) - $start" | bc)" "$code"
  [ "$code" = 0 ] || tail -3 "$out/$name.log"
}

say "machine"
python -c "import torch, transformers; print(torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU', torch.__version__, transformers.__version__)"

say "the bundled pair (goal: under 10 s)"
for dtype in float32 bfloat16 float16; do
  timed "bundled-$dtype" 90 python -m driftcli diagnose --device "$device" --dtype "$dtype" --num-processes 1 "${few[@]}" --out "$out/bundled-$dtype" --force
done
timed bundled-cpu 120 python -m driftcli diagnose --device cpu --dtype float32 "${few[@]}" --out "$out/bundled-cpu" --force

say "rows: float32 on the GPU against the CPU's, then bfloat16 and float16 against float32"
python -m tests.benchmarks.rows_apart "$out/bundled-cpu" "$out/bundled-float32"
for dtype in bfloat16 float16; do
  echo "-- $dtype"
  python -m tests.benchmarks.rows_apart "$out/bundled-float32" "$out/bundled-$dtype"
done

say "an 8B pair: writing"
timed make-pair 180 python -m tests.benchmarks.big_pair "$out/pair" "${small[@]}"
timed write 120 python -m tests.benchmarks.big_pair "$out/pair" "${small[@]}" --write
cat "$out/write.txt"

say "an 8B pair: the baseline by stage, and over its own writing (goal: 1.2)"
timed baseline 150 python tests/benchmarks/battery.py --once "${pair[@]}" --device "$device" --dtype bfloat16 --num-processes 1 --probe chain-length --limit 40 "${few[@]}"
python - "$out/baseline.txt" <<'PYTHON'
import json, sys

told = open(sys.argv[1]).read().splitlines()
if told:
    found = json.loads(told[-1])
    stages, aside = found["stages"], ("loading", "looking ahead", "timing steps", "judging")
    for name, seconds in sorted(stages.items(), key=lambda item: -item[1]):
        print(f"{name:24}{seconds:8.2f} s")
    measuring = found["whole"] - sum(stages.get(name, 0) for name in aside)
    print(f"inside forward passes {found['forwards']:.2f} s of {found['whole']:.2f}; measuring over writing {measuring / stages['writing replies']:.2f}")
PYTHON

say "an 8B pair: --quick (goal: 35 s)"
timed quick 150 python -m driftcli diagnose "${pair[@]}" --device "$device" --dtype bfloat16 --num-processes 1 --quick "${few[@]}" --out "$out/quick" --force
grep -h "roughly" "$out/quick.log"

say "why one dtype takes longer than another: the bundled pair by stage"
for dtype in float32 bfloat16; do
  timed "stages-$dtype" 90 python tests/benchmarks/battery.py --once --device "$device" --dtype "$dtype" --num-processes 1 "${few[@]}"
  tail -1 "$out/stages-$dtype.txt"
done
rm -rf "$out/pair"
