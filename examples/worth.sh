#!/bin/bash
# What are images from elsewhere worth? A folder of them that no run of figment made, beside a few photographs. About 10 seconds of CPU,
# on the embedded starter, without a network.
#
#   examples/worth.sh [DIR]
#
# DIR (default: a new one) gets photos/ with 2 training and 10 test images a class, and made/, 20 others of each class with a caption
# beside each, as another tool would leave them. Put your own in their place.
set -euo pipefail

where=${1:-$(mktemp -d)}
python "$(dirname "$0")/photographs.py" "$where" "trouser,dress,sandal,bag,ankle boot" \
    photos/train=starter/sketch/pool:0:2 photos/test=starter/sketch/test:0:10 made=starter/sketch/pool:10:30
cd "$where"

for image in made/*/*.png; do
    class=$(basename "$(dirname "$image")")
    [ -e "${image%.png}.txt" ] || echo "a sketch of one ${class//_/ }" >"${image%.png}.txt"
done

figment worth --synthetic made --real photos --encoder starter/clip --out worth
