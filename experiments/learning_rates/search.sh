#!/usr/bin/env bash
# Five learning rates for each method, 100 steps on the drills, val/loss decides. About a minute a run.
# Usage: experiments/learning_rates/search.sh FOLDER
set -euo pipefail
folder=$1

search() { # method, learning rates
    python -m ift_lightning.train --multirun "peft=$1" "optimizer.lr=$2" trainer.max_steps=100 \
        measure_before=false evaluate=false logger=none audit.reload_check=never \
        trainer.num_threads=1 "hydra.sweep.dir=$folder/$1"
}

search lora 1e-3,2e-3,4e-3,8e-3,1.6e-2
search full 2.5e-4,5e-4,1e-3,2e-3,4e-3
search prompt 1e-2,3e-2,1e-1,3e-1,1
search ptuning 1e-3,3e-3,1e-2,3e-2,1e-1
search prefix 3e-3,1e-2,3e-2,1e-1,3e-1
search adalora 1e-3,2e-3,4e-3,8e-3,1.6e-2
search ia3 3e-3,1e-2,3e-2,1e-1,3e-1
search dora 1e-3,2e-3,4e-3,8e-3,1.6e-2
python experiments/learning_rates/table.py "$folder"
