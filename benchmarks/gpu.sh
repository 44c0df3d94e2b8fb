#!/bin/sh
# What wants a CUDA device: the tests marked so, the complexity gap on it, sampled and exact, trainings, their share of the matrix rate, windows, neighbor confidence, re-labeling, networks that shrink, and el2n. Usage: sh benchmarks/gpu.sh [DATA FOLDER]
# Nothing is installed: python must have this package and its dependencies.
set -eu
cd "$(dirname "$0")/.."
data=${1:-../shared/data}
out=$(mktemp -d)
python -c "import torch; assert torch.cuda.is_available(), 'no CUDA device'; print(torch.cuda.get_device_name(), torch.__version__)"
python -m pytest -m gpu
for precision in float64 float32; do
  python -m prune_cli score "$data/fashion_mnist_train.parquet" --device cuda --precision $precision --json -q -o "$out/$precision.parquet"
done
# 50,000 rows at once, in both precisions: 2/3 N^3 flops over the seconds are its share of the matrix rate
for precision in float64 float32; do
  python -m prune_cli score "$data/cifar10_train.parquet" --method cg,ntk_margin -p mode=exact -p ridge=0.3 --device cuda --precision $precision --json -q \
    -o "$out/exact-$precision.parquet"
done
python -m prune_cli select "$out/float64.parquet" --method top --fraction 0.3 -q -o "$out/kept.parquet"
for arch in resnet9:64 resnet18; do
  python -m prune_cli train "$data/fashion_mnist_train.parquet" --subset "$out/kept.parquet" --arch $arch --steps 1000 --batch-size 256 \
    --device cuda --json -q -o "$out/$arch"
  python -m prune_cli evaluate "$out/$arch" "$data/fashion_mnist_test.parquet" --device cuda --json -q -o "$out/$arch.report.parquet"
done
# one training on all cards, each with its share of every batch
cards=$(python -c "import torch; print(torch.cuda.device_count())")
python -m torch.distributed.run --standalone --nproc-per-node "$cards" --no-python python -m prune_cli train "$data/cifar10_train.parquet" --arch resnet18 \
  --steps 500 --batch-size 512 --device cuda --json -q -o "$out/together"
python benchmarks/throughput.py --device cuda
python benchmarks/window.py --device cuda
# neighbor confidence on both devices, and the recipes of the published schedule's network on what it keeps
python -m prune_cli score "$data/fashion_mnist_train.parquet" --method loss --epochs 2 --save-features "$out/features.parquet" --device cuda -q -o "$out/loss.parquet"
for device in cpu cuda; do
  python -m prune_cli select "$out/loss.parquet" --method neighbor_confidence --features "$out/features.parquet" --fraction 0.2 --device $device \
    --json -q -o "$out/confidence-$device.parquet"
done
for recipe in standard sop elr elr_plus dividemix; do
  python -m prune_cli train "$data/fashion_mnist_train.parquet" --subset "$out/confidence-cuda.parquet" --recipe $recipe --arch preactresnet18 --epochs 20 \
    --device cuda --json -q -o "$out/$recipe"
done
python benchmarks/recipes.py --device cuda --archs resnet18,preactresnet18
# people's wrong labels on the published schedule, and full residual networks that shrink
python benchmarks/relabeling.py --data "$data" --work "$out/relabeling" --dataset cifar10n --kept 1 --epochs 300 --arch preactresnet18 --augment auto --seeds 1
python benchmarks/structure.py --data "$data" --work "$out/structure" --dataset cifar10 --arch resnet18 --epochs 30 --seeds 1
# el2n as published: 20 of 200 epochs of resnet18; the summary has the seconds
python -m prune_cli score "$data/cifar10_train.parquet" --method el2n --arch resnet18 --epochs 200 --device cuda --json -q -o "$out/el2n.parquet"
rm -rf "$out"
