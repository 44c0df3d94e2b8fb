#!/bin/sh
# Makes docs/example_report.html from the sample data: a fifth of the labels is wrong, and the page shows what prune makes of that.
#   sh sample_data/make_report.sh [FOLDER]      FOLDER keeps what is made on the way; default: a temporary one
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-$(mktemp -d)}
mkdir -p "$work"
cd "$work"
train=$here/digits_noisy_train.parquet
test=$here/digits_test.parquet

prune score "$train" --method forgetting,aum --epochs 10 --arch resnet9:8 --save-features features.parquet \
  -o scores.parquet --json --force > score.json
prune score "$train" --method ntk_margin -o margin.parquet --force -q > /dev/null
prune select scores.parquet margin.parquet --method window -p key=aum --features features.parquet \
  --fraction 0.3,0.5,0.7 -o window.parquet --json --force > select.json
prune train "$train" --subset window-0.7.parquet --structure complexity_aware -p target_flops=0.5 --arch resnet9:8 \
  --epochs 12 -o small --force -q > /dev/null
prune evaluate small "$test" -o small.evaluate.parquet --force -q > /dev/null
prune compare scores.parquet margin.parquet --data "$train" --test "$test" --methods window,top --keys aum,ntk_margin \
  -p top.order=easiest --fractions 0.3,0.5,0.7 --features features.parquet --epochs 10 --arch resnet9:8 --budget both \
  --costs score.json --gate "accuracy >= random" --gate-undecided pass -o compare.parquet --force -q > /dev/null || [ $? -eq 1 ]  # a gate that fails
prune report scores.parquet margin.parquet window-0.7.parquet window.curve.parquet compare.parquet small \
  small.evaluate.parquet --data "$train" --samples 12 --title "Handwritten digits, a fifth of the labels wrong" \
  -o "$here/../docs/example_report.html" --force
