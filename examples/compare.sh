#!/bin/bash
# Three generators, one task: which images train best? The starter in one step and in four, and images that another tool made.
# About 30 seconds of CPU, on the embedded starter, without a network.
#
#   examples/compare.sh [DIR]
#
# DIR (default: a new one) gets photos/test and made/, 20 images a class each. Put your own in their place.
set -euo pipefail

where=${1:-$(mktemp -d)}
python "$(dirname "$0")/photographs.py" "$where" "coat,pullover,shirt" photos/test=starter/test:0:20 made=starter/pool:0:20
cd "$where"

[ -e recipe.yaml ] || cat >recipe.yaml <<'RECIPE'
task:
  class_names: [coat, pullover, shirt]
  real: {test: photos/test}
prompts: {kind: templates}
generate: {model: starter, images_per_class: 10, num_inference_steps: 1}
train: {kind: images_only, encoder: starter/clip}
RECIPE

figment run recipe.yaml --out one-step
figment run recipe.yaml --out four-steps --set generate.num_inference_steps=4
figment run recipe.yaml --out another-tool --set 'generate={kind: folder, path: made, images_per_class: 10}' \
    --set 'prompts={kind: of_images}'       # such images bring their own prompts

figment compare one-step four-steps another-tool --html compare.html
echo "The same as a page: $where/compare.html"
