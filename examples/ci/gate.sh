#!/usr/bin/env bash
# The gate of both pipelines: measure the pair, hold it against the policy and, where one is kept, against the last run that passed.
# DRIFTCLI_GATE_ARGS: what else diagnose is told, such as --target and --drafter of your own pair; without any the pair that ships.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p gate baseline

read -ra args <<<"${DRIFTCLI_GATE_ARGS:-}"
driftcli diagnose --quick --out gate/run --force "${args[@]}" --output kind=html,path=gate/report.html || exit $?

baseline=()
[ -f baseline/run/run.json ] && baseline=(--baseline baseline/run)
annotations=()
[ -n "${GITHUB_ACTIONS:-}" ] && annotations=(--output kind=github)
driftcli check gate/run --policy "$here/policy.toml" "${baseline[@]}" "${annotations[@]}" \
    --output kind=junit,path=gate/junit.xml --output kind=sarif,path=gate/driftcli.sarif --output kind=markdown,path=gate/check.md
code=$?

# What passed is what the next change is held against.
if [ "$code" -eq 0 ]; then rm -rf baseline/run && cp -r gate/run baseline/run; fi
exit "$code"
