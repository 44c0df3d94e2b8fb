#!/bin/sh
# The four commands in a row on the sample data, for the kept half, a random half and everything, at equal steps.
# Usage: sample_data/demo.sh [FOLDER]     (prune must be on the PATH)
set -eu
data=$(cd "$(dirname "$0")" && pwd)
out=${1:-demo}
steps=300
rm -rf "$out"
mkdir -p "$out"

prune score "$data/digits_train.parquet" --method cg -p repeats=4 -o "$out/scores.parquet"
prune select "$out/scores.parquet" --method top --fraction 0.5 -o "$out/kept.parquet"
prune select "$out/scores.parquet" --method random --fraction 0.5 -o "$out/random.parquet"
for name in kept random all; do
  if [ "$name" = all ]; then subset=""; else subset="--subset $out/$name.parquet"; fi
  # shellcheck disable=SC2086
  prune train "$data/digits_train.parquet" $subset --arch resnet9:16 --steps $steps -q -o "$out/run-$name"
  prune evaluate "$out/run-$name" "$data/digits_test.parquet" -q -o "$out/$name.report.parquet" --json > "$out/$name.json"
done

echo
echo "Test accuracy after $steps steps on"
for name in kept random all; do
  accuracy=$(sed 's/.*"accuracy": \([0-9.]*\).*/\1/' "$out/$name.json")
  case $name in
    kept) label="the kept half (highest CG-score)" ;;
    random) label="a random half" ;;
    all) label="everything" ;;
  esac
  printf '  %-34s %s\n' "$label" "$accuracy"
done
echo "Scores, selections, runs and reports are in $out/"
