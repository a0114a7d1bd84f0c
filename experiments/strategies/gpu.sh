#!/usr/bin/env bash
# Speed, memory and agreement of losses on GPUs: gpu.sh FOLDER [DEVICES].
# Needs a GPU of 80 GB or more for the 7B shape in one process.
set -euo pipefail
out=${1:?usage: gpu.sh FOLDER [DEVICES]}
devices=${2:-1}
here=$(dirname "$0")
common=(model=local precision=bf16_true attention=sdpa data=drills data.num_train=2000
    trainer.max_steps=40 trainer.global_batch_size=32 trainer.micro_batch_size=8
    trainer.gradient_checkpointing=true audit.reload_check=never peft.config.lora_dropout=0)

for shape in 1.5b 7b; do
    model=$out/model-$shape
    [ -f "$model/config.json" ] || python "$here/make_model.py" "$shape" "$model"
    python "$here/measure.py" "$out/$shape-lora" --devices "$devices" \
        --strategies single,fsdp,zero-2,zero-3 "${common[@]}" "model.path=$model" peft=lora
    # Sharding cuts quantized weights away from their scales: one process, or one a device.
    python "$here/measure.py" "$out/$shape-qlora" --devices "$devices" --strategies single,ddp \
        "${common[@]}" "model.path=$model" peft=qlora precision=nf4
done
