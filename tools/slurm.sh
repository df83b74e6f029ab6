#!/bin/bash
# Train under Slurm, one process per GPU; go on by itself after the time limit or a preemption.
#
#   sbatch --nodes 2 tools/slurm.sh --cfg config/coco/ce_hrhrnet_w32_512.yaml
#
# Arguments after the script's name go to tools/train.py. Submit from the checkout; PYTHON names another
# Python than .venv/bin/python. All tasks of a machine must see all of its GPUs: no --gpus-per-task.
#
# Two minutes before the time limit Slurm sends SIGTERM. Training saves a checkpoint, exits with 143 and goes back
# into the queue; its next start continues from there. MAX_REQUEUES (100) bounds how often.
#SBATCH --job-name=coupled_embedding
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out

set -u
cd "${SLURM_SUBMIT_DIR:-.}" || exit 1

# torch.distributed meets at the first machine
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
# "8(x2)" or "8,4"
tasks=${SLURM_TASKS_PER_NODE:-1}
LOCAL_WORLD_SIZE=${tasks%%[(,]*}
export MASTER_ADDR MASTER_PORT LOCAL_WORLD_SIZE
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
# since 22.05 srun no longer takes it from the job
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"

# no torchrun: it would turn 143 into 1, and Slurm starts the processes anyway. A process that fails leaves the
# others 60 seconds, which is enough to finish a checkpoint
# shellcheck disable=SC2016 # a task's own variables
srun --kill-on-bad-exit=0 --wait=60 \
    bash -c 'export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS; exec "$@"' task \
    "${PYTHON:-.venv/bin/python}" tools/train.py "$@" --resume
code=$?

if [ "$code" -eq 143 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "${MAX_REQUEUES:-100}" ]; then
    echo "stopped by SIGTERM: job $SLURM_JOB_ID goes back into the queue"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
