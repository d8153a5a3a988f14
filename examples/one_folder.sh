#!/bin/bash
# Twenty photographs in one folder, and nobody has said which of them are to test on: what is wrong with them, a split, a verdict, and
# then photographs that nobody has labelled. About 20 seconds of CPU, on the embedded starter, without a network.
#
#   examples/one_folder.sh [DIR]
#
# DIR (default: a new one) gets photos/ with a folder a class, and new/. Put your own in their place.
set -euo pipefail

where=${1:-$(mktemp -d)}
python "$(dirname "$0")/photographs.py" "$where" "coat,sandal" photos=starter/pool:0:10 new=starter/test:0:3
cd "$where"

# Its last line is the split, as the recipe below has it. It says too that six photographs to test on are too few for a verdict.
figment check photos

[ -e recipe.yaml ] || cat >recipe.yaml <<'RECIPE'
task:
  class_names: [coat, sandal]
  real: {folder: photos, test_share: 0.3}
prompts: {kind: templates}
generate: {model: starter, images_per_class: 10, num_inference_steps: 2}
few_shot: {shots: all}           # learn from the other photographs too
train: {encoder: starter/clip}
RECIPE

figment run recipe.yaml --out run
figment predict run new
