#!/bin/bash
# Images are made on two machines and trained on at a third, which alone has the photographs. Here the machines are folders.
# About 30 seconds of CPU, on the embedded starter, without a network.
#
#   examples/two_machines.sh [DIR]
#
# DIR (default: a new one) gets gpu-0/, gpu-1/ and desk/, with photos/test in the last, 10 images a class. Put your own in their place.
# Machines with a common disk need no copying: see slurm_array.sh.
set -euo pipefail

where=${1:-$(mktemp -d)}
python "$(dirname "$0")/photographs.py" "$where/desk" "coat,sandal" photos/test=starter/test:0:10
cd "$where"

[ -e desk/recipe.yaml ] || cat >desk/recipe.yaml <<'RECIPE'
task:
  class_names: [coat, sandal]
  real: {test: photos/test}
prompts: {kind: templates}
generate:
  model: starter
  images_per_class: 16
  num_inference_steps: 2
  shard_size: 8                  # images a file: a part is every second file. The default, 256, suits thousands of images
train: {encoder: starter/clip}
RECIPE

for i in 0 1; do
    mkdir -p "gpu-$i"
    cp desk/recipe.yaml "gpu-$i"
    (cd "gpu-$i" && figment generate recipe.yaml --part "$i/2" --out run)
done

for i in 0 1; do
    cp -r "gpu-$i/run" desk      # between machines: rsync -a gpu-0:run desk
done

cd desk
figment status run
figment run recipe.yaml --out run
figment verify run
