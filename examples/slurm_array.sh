#!/bin/bash
# The images of a run as a Slurm job array, without Ray: every job makes every N-th file, then one job does the rest.
#
#   examples/slurm_array.sh RECIPE OUT N [more options for sbatch]
#   examples/slurm_array.sh pets.yaml /shared/runs/pets 16 --partition=gpu --time=4:00:00
#   VARIANT=starter examples/slurm_array.sh pets.yaml /shared/runs/pets-starter 16     # one of the recipe's variants
#
# OUT lies on a disk that all nodes share, or is something like s3://bucket/pets. Jobs that are killed or never ran are
# no loss: `figment run` makes what is missing. The same command again does so with N jobs.
set -euo pipefail

recipe=$(printf %q "$1") out=$(printf %q "$2") parts=$3
variant=${VARIANT:+"--variant $(printf %q "$VARIANT")"}
shift 3

images=$(sbatch --parsable --job-name=figment-images --gpus=1 --array="0-$((parts - 1))" "$@" \
    --wrap "figment generate $recipe $variant --part \$SLURM_ARRAY_TASK_ID/\$SLURM_ARRAY_TASK_COUNT --out $out")

sbatch --job-name=figment-run --gpus=1 --dependency="afterany:${images%%;*}" "$@" \
    --wrap "figment run $recipe $variant --out $out"
