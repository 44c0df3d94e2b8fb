#!/bin/sh
# Score, select, train, evaluate on Fashion-MNIST with no hand edit: the hardest 30 %, a random 30 %, everything, at equal steps.
# Usage: sh benchmarks/pipeline.sh [DATA FOLDER] [STEPS] > docs/results/pipeline.md     (prune must be on the PATH)
set -eu
data=${1:-../shared/data}
steps=${2:-1000}
if [ ! -f "$data/fashion_mnist_train.parquet" ]; then echo "no Fashion-MNIST in $data" >&2; exit 2; fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
field() { sed "s/.*\"$1\": \([0-9.]*\).*/\1/" "$2"; }

prune score "$data/fashion_mnist_train.parquet" --method cg -q --json -o "$out/scores.parquet" > "$out/score.json"
prune score "$data/fashion_mnist_train.parquet" --method cg -q -o - | prune select - --method top --fraction 0.3 -q -o "$out/piped.parquet" > /dev/null
prune select "$out/scores.parquet" --method top --fraction 0.3 -q -o "$out/hardest.parquet" > /dev/null
prune select "$out/scores.parquet" --method random --fraction 0.3 -q -o "$out/random.parquet" > /dev/null
cat << TABLE
# Score, select, train, evaluate on Fashion-MNIST

Made by \`sh benchmarks/pipeline.sh ../shared/data $steps > docs/results/pipeline.md\` on 2 cores.

CG-score of 60,000 images (ratio 1, one repeat, float64): $(field seconds "$out/score.json") s, start included.

| trained on | rows | steps | test accuracy | training, s |
| --- | --- | --- | --- | --- |
TABLE
for name in hardest random everything; do
  if [ "$name" = everything ]; then subset=""; else subset="--subset $out/$name.parquet"; fi
  # shellcheck disable=SC2086
  prune train "$data/fashion_mnist_train.parquet" $subset --arch resnet9:16 --steps "$steps" -q --json -o "$out/run-$name" > "$out/train.json"
  prune evaluate "$out/run-$name" "$data/fashion_mnist_test.parquet" -q --json -o "$out/$name.report.parquet" > "$out/test.json"
  echo "| $name | $(field rows_out "$out/train.json") | $steps | $(field accuracy "$out/test.json") | $(field seconds "$out/train.json") |"
done
echo
echo "One seed: a look at the whole chain, not a comparison of methods."
python - "$out/piped.parquet" "$out/hardest.parquet" << 'CHECK'
import sys

import pyarrow.parquet as pq

a, b = (pq.read_table(path) for path in sys.argv[1:])
assert a.equals(b), "the pipe and the files differ"
CHECK
