"""Training time beside TRL's SFTTrainer and beside a bare loop, on the same rows and model.

Usage: python experiments/training_speed/benchmark.py ROWS.json [--repeats N] [--rows N]

ROWS.json holds rows in Alpaca form. Each contestant runs in a process of its own, in turn, so that
a machine whose speed drifts drifts for all of them; ratios are taken within a round. All train the
same LoRA on the same random Llama, and are scored on the same held-out rows by the same code.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BATCH_SIZE, MAX_LENGTH, LEARNING_RATE, WARMUP, SEED = 8, 512, 2e-3, 0.03, 0
LORA = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
CONTESTANTS = ("trl", "bare", "ours", "ours_windowed")


def overrides(folder: Path, *, windowed: bool, run_dir: Path) -> list[str]:
    """Return the command line of our own run."""
    return [
        "model=local",
        f"model.path={folder / 'model'}",
        "data=jsonl",
        f"data.path={folder / 'train.json'}",
        f"data.val_path={folder / 'val.json'}",
        "data.test_fraction=0",
        f"data.cache_dir={folder / 'cache'}",
        f"data.max_seq_length={MAX_LENGTH}",
        f"data.shuffle_window={50 if windowed else 1}",
        "data.bad_rows=skip",
        "peft=lora",
        f"peft.config.r={LORA['r']}",
        f"peft.config.lora_alpha={LORA['lora_alpha']}",
        f"peft.config.target_modules=[{','.join(LORA['target_modules'])}]",
        f"optimizer.lr={LEARNING_RATE}",
        f"scheduler.warmup_fraction={WARMUP}",
        "trainer.max_epochs=1",
        f"trainer.global_batch_size={BATCH_SIZE}",
        f"trainer.micro_batch_size={BATCH_SIZE if windowed else BATCH_SIZE // 2}",
        "trainer.progress_bar=false",
        "trainer.accelerator=cpu",
        "measure_before=false",
        "audit.reload_check=never",
        f"seed={SEED}",
        f"hydra.run.dir={run_dir}",
    ]


def make_inputs(rows_path: Path, folder: Path, num_rows: int) -> None:
    """Write training and held-out rows, and a random Llama with a tokenizer made of the rows."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    rows = [row for row in json.loads(rows_path.read_text()) if row["output"].strip()]
    (folder / "train.json").write_text(json.dumps(rows[:num_rows]))
    (folder / "val.json").write_text(json.dumps(rows[num_rows : num_rows + 200]))
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        special_tokens=["<|bos|>", "<|eos|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (row["instruction"] + row["input"] + row["output"] for row in rows)
    backend.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|bos|>", eos_token="<|eos|>", pad_token="<|pad|>"
    )
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")


def compose(folder: Path, *, windowed: bool = False) -> Any:
    """Return our training config, composed in this process."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    from ift_lightning.config.entry import (
        allow_new_keys,
        config_dir,
        register_resolvers,
        register_schema,
        to_dataclass,
    )
    from ift_lightning.config.schema import TrainConfig

    register_resolvers()
    register_schema("train", TrainConfig)
    words = overrides(folder, windowed=windowed, run_dir=folder / "unused")[:-1]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        words = allow_new_keys([*words, f"run_dir={folder / 'unused'}"], TrainConfig)
        return to_dataclass(hydra_compose("train", overrides=words), TrainConfig)


def held_out_loss(model: Any, folder: Path) -> float:
    """Return the mean loss over the held-out rows' target tokens."""
    import torch

    from ift_lightning import assembly
    from ift_lightning.data.batching import plan_evaluation
    from ift_lightning.data.datamodule import collate
    from ift_lightning.modeling.loss import SupervisedHead

    config = compose(folder)
    tokenizer = assembly.build_tokenizer(config)
    split = assembly.prepare_data(config, tokenizer, folder / "rejected.jsonl").splits["val"]
    head = SupervisedHead(model)
    total = count = 0.0
    model.eval()
    with torch.no_grad():
        for planned in plan_evaluation(split.lengths, batch_size=16):
            losses = head(collate(split, planned, tokenizer.pad_token_id))
            total += float(losses.weighted_sum)
            count += float(losses.weights.sum())
    return total / count


def run_ours(folder: Path, *, windowed: bool) -> dict[str, float]:
    """Train by the command line in a process of its own."""
    run_dir = Path(tempfile.mkdtemp(dir=folder))
    words = overrides(folder, windowed=windowed, run_dir=run_dir)
    subprocess.run(
        [sys.executable, "-m", "ift_lightning.train", *words], check=True, capture_output=True
    )
    record = json.loads((run_dir / "run.json").read_text())
    return {
        "seconds": record["performance"]["train_seconds"],
        "loss": record["metrics"]["val/loss"],
    }


def run_bare(folder: Path) -> dict[str, float]:
    """Train the same micro-batches in a loop without Lightning, loggers or callbacks."""
    import torch
    from transformers import get_scheduler

    from ift_lightning import assembly
    from ift_lightning.data.batching import StepPlanner
    from ift_lightning.data.datamodule import collate
    from ift_lightning.modeling.loss import SupervisedHead

    config = compose(folder)
    torch.manual_seed(SEED)
    tokenizer = assembly.build_tokenizer(config)
    split = assembly.prepare_data(config, tokenizer, folder / "rejected.jsonl").splits["train"]
    planner = StepPlanner(
        split.lengths,
        split.weights,
        global_batch_size=BATCH_SIZE,
        micro_batch_size=config.trainer.micro_batch_size,
        seed=SEED,
    )
    num_steps = planner.steps_per_epoch
    model = assembly.build_model(config, tokenizer, num_steps)
    model.train()
    head = SupervisedHead(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    schedule = get_scheduler(
        "linear",
        optimizer,
        num_warmup_steps=round(num_steps * WARMUP),
        num_training_steps=num_steps,
    )
    started = time.perf_counter()
    for step in range(num_steps):
        for planned in planner.step(step)[0]:
            losses = head(collate(split, planned, tokenizer.pad_token_id))
            (losses.weighted_sum / planned.step_weight).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "loss": held_out_loss(model, folder)}


def run_trl(folder: Path) -> dict[str, float]:
    """Train with TRL: padded, completion-only loss, fused AdamW."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from ift_lightning import assembly
    from ift_lightning.types import InstructionRecord, Role

    template = assembly.build_template(compose(folder).template)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    texts = []
    for index, row in enumerate(json.loads((folder / "train.json").read_text())):
        segments = template.segments(InstructionRecord(str(index), **row), tokenizer)
        prompt = "".join(part.text for part in segments if part.role is Role.PROMPT)
        answer = "".join(part.text for part in segments if part.role is Role.ANSWER)
        texts.append({"prompt": prompt, "completion": answer})
    settings = SFTConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=BATCH_SIZE,
        num_train_epochs=1,
        max_length=MAX_LENGTH,
        completion_only_loss=True,
        packing=False,
        optim="adamw_torch_fused",
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="linear",
        warmup_steps=WARMUP,
        max_grad_norm=1.0,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        logging_steps=10,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=SEED,
    )
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    trainer = SFTTrainer(
        model=model,
        args=settings,
        train_dataset=Dataset.from_list(texts),
        processing_class=tokenizer,
        peft_config=LoraConfig(task_type="CAUSAL_LM", **LORA),
    )
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "loss": held_out_loss(trainer.model, folder)}


def run_one(contestant: str, folder: Path) -> dict[str, float]:
    """Run a contestant in this process."""
    if contestant == "trl":
        return run_trl(folder)
    if contestant == "bare":
        return run_bare(folder)
    return run_ours(folder, windowed=contestant == "ours_windowed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", type=Path)
    parser.add_argument("--rows", dest="num_rows", type=int, default=800)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if arguments.contestant:
        print(json.dumps(run_one(arguments.contestant, arguments.rows)))
        return
    results: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_inputs(arguments.rows, folder, arguments.num_rows)
        for _ in range(arguments.repeats):
            for contestant in CONTESTANTS:
                command = [sys.executable, __file__, name, "--contestant", contestant]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    sys.exit(f"{contestant} failed:\n{done.stderr[-3000:]}")
                results[contestant].append(json.loads(done.stdout.strip().splitlines()[-1]))
                latest = results[contestant][-1]
                print(f"{contestant:>14}  {latest['seconds']:7.2f} s  loss {latest['loss']:.4f}")
    print_summary(results)


def print_summary(results: dict[str, list[dict[str, float]]]) -> None:
    """Print medians, and ratios taken round by round."""
    print(f"\n{'':>14}  {'seconds':>8}  {'of TRL':>7}  {'of bare':>7}  {'held-out loss':>13}")
    for name, runs in results.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        ratios = [
            statistics.median(
                run["seconds"] / other["seconds"]
                for run, other in zip(runs, results[base], strict=True)
            )
            for base in ("trl", "bare")
        ]
        loss = statistics.median(run["loss"] for run in runs)
        print(f"{name:>14}  {seconds:8.2f}  {ratios[0]:7.3f}  {ratios[1]:7.3f}  {loss:13.4f}")


if __name__ == "__main__":
    main()
