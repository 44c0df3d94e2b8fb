#!/usr/bin/env bash
# Does training on a part of the data still do? Scores, selects, compares; the exit code is that of the gate.
#
# Usage: prune_gate.sh DATA TEST [FOLDER]
#
# DATA and TEST are data manifests; what is made goes to FOLDER (default: prune-gate), over what an earlier run left there.
# How to score, select, train and judge stands in the file that PRUNE_CONFIG names, or in variables such as PRUNE_SELECT_FRACTION.
# Exit codes: 0 the gate holds, 1 it does not, 2 bad input or usage, 3 too many bad rows, 4 something is not installed.
set -euo pipefail

if [ $# -lt 2 ] || [ $# -gt 3 ]; then
  echo "usage: $0 DATA TEST [FOLDER]" >&2
  exit 2
fi
data=$1
test=$2
out=${3:-prune-gate}
mkdir -p "$out"

# Say something to the log, and to the summary of the job where there is one.
say() {
  echo "$1" >&2
  if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then echo "$1" >> "$GITHUB_STEP_SUMMARY"; fi
}

# Run one command with its messages in the log, and in a file for the summary.
logged() {
  local code=0
  "$@" 2> "$out/messages.txt" || code=$?
  cat "$out/messages.txt" >&2
  return "$code"
}

# Put the messages of the last command into the summary as they are.
show_messages() {
  say '```text'
  if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then cat "$out/messages.txt" >> "$GITHUB_STEP_SUMMARY"; fi
  say '```'
}

# Leave with a code, and say what it means.
leave() {
  case $1 in
    0) say "**The gate holds.**" ;;
    1) say "**The gate does not hold**: the selection trains worse than was asked for, or the seeds cannot tell." ;;
    2) say "**Bad input or usage (exit code 2).** Nothing was judged; the message names the file and the cure." ;;
    3) say "**Too many bad rows (exit code 3).** Nothing was judged; \`$out/*.errors.parquet\` lists them." ;;
    4) say "**Something is not installed (exit code 4).** Nothing was judged; the message is the line that installs it." ;;
    *) say "**prune ended with exit code $1.** Nothing was judged." ;;
  esac
  exit "$1"
}

say "## Does pruning hold?"
rm -f "$out/costs.json" "$out/report.html"
for step in score select; do
  code=0
  if [ "$step" = score ]; then
    logged prune score "$data" --json --force -o "$out/scores.parquet" >> "$out/costs.json" || code=$?
  else
    logged prune select "$out/scores.parquet" --json --force -o "$out/kept.parquet" >> "$out/costs.json" || code=$?
  fi
  if [ "$code" -ne 0 ]; then
    show_messages
    leave "$code"
  fi
done

verdict=0
logged prune compare "$out/kept.parquet" --data "$data" --test "$test" --costs "$out/costs.json" \
  --work-dir "$out/work" --force -o "$out/compare.parquet" > /dev/null || verdict=$?
show_messages
if [ "$verdict" -le 1 ]; then
  prune report "$out/scores.parquet" "$out/kept.parquet" "$out/compare.parquet" --data "$data" --quiet --force \
    -o "$out/report.html" > /dev/null
fi
leave "$verdict"
