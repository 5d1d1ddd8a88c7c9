#!/bin/bash
# A build in 16 shares, one per task of an array, on a file system that all nodes see:
#
#   sbatch examples/slurm.sh --source qa.jsonl --base-url http://teacher:8000/v1 --model my-model
#
# Type it again after a time limit or a lost node: what was answered is not asked again. `r1k-build status` tells how far it is.
# The dataset is written once all shares are there:
#
#   sbatch --array=0 --dependency=afterok:JOB examples/slurm.sh
#
# For more shares: SHARDS=64 sbatch --array=1-64 examples/slurm.sh ... A key that the teacher needs comes from the environment,
# which sbatch hands on. On nodes with disks of their own set OUTPUT to a folder there, and afterwards copy every node's
# $OUTPUT/.build/journal-*-of-*.sqlite* into the .build/ of one folder for the export.
#SBATCH --job-name=r1k
#SBATCH --array=1-16
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120
set -euo pipefail
OUTPUT=${OUTPUT:-r1k}
SHARDS=${SHARDS:-16}

# exec, so that Slurm's SIGTERM reaches r1k-build, which then waits for what is in flight
if [ "$SLURM_ARRAY_TASK_ID" -eq 0 ]; then
  exec r1k-build export "$OUTPUT"
fi
exec r1k-build --resume --output "$OUTPUT" --shard "$SLURM_ARRAY_TASK_ID/$SHARDS" "$@"
