#!/usr/bin/env bash
# What docs/cifar10.md tells, measured again on this machine's GPU: a training of minutes by the workflow, samples in three
# precisions, the speed of every way to train and sample at 32x32, and a training step at 256x256. All lands in results/.
#   benchmarks/glimpse.sh [CONFIG.yaml]   CONFIG.yaml says where CIFAR-10 is (`sources`), if it is not to be downloaded
set -euo pipefail
cd "$(dirname "$0")/.."
out=results/bench/glimpse
mkdir -p "$out"

./run snakemake --cores 8 --config scale=glimpse ${1:+--configfile "$1"}
scored=(--network results/glimpse/reference/cifar10/classifier.safetensors --reference results/glimpse/reference/cifar10/features.npz)
model=results/glimpse/cifar10-eps-simple/model.safetensors
./run python benchmarks/paired_precision.py "$model" "${scored[@]}" --out "$out/precision.csv"
./run python benchmarks/paired_precision.py "$model" "${scored[@]}" --steps 100 --eta 1 --out "$out/precision-eta1.csv"
./run python benchmarks/speed.py --profile "$out/kernels.csv" --out "$out"
./run python benchmarks/speed.py --experiment lsun-church256-eps-simple --only "training: this project, bf16.*compiled" --out "$out/256"
