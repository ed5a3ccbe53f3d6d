#!/bin/sh
#SBATCH --job-name=mambyte
#SBATCH --array=0-9
#SBATCH --cpus-per-task=4
#SBATCH --output=perplexity-%a.tsv
#
# slurm.sh LIST -- how well the model predicts each file of a list, by the tasks
# of a job array:
#
#     find /data -type f >list
#     sbatch --array=0-99 slurm.sh list
#     sed '/^total\t/d' perplexity-*.tsv | sort >all.tsv
#
# LIST has a name on each line.  A task takes each n-th of them, and gives them
# to one process, which reads many at a time.  A line is the same whichever task
# writes it.  Without Slurm, `sh slurm.sh list' does all of them.
#
# SPDX-License-Identifier: MIT
set -eu

list=${1:?usage: sbatch slurm.sh LIST}
awk -v n="${SLURM_ARRAY_TASK_COUNT:-1}" \
	-v i="$((${SLURM_ARRAY_TASK_ID:-0} - ${SLURM_ARRAY_TASK_MIN:-0}))" \
	'NR % n == i' "$list" | tr '\n' '\000' |
	xargs -0 -r mambyte --quiet --perplexity \
		--threads="${SLURM_CPUS_PER_TASK:-0}"
