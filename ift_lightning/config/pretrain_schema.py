"""Dataclasses behind ``conf/pretrain.yaml``."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from ift_lightning.config.schema import LoggerConfig


@dataclass
class ArchitectureConfig:
    """A Llama with attention biases and tied embeddings."""

    hidden_size: int = 192
    intermediate_size: int = 512
    num_layers: int = 4
    num_heads: int = 3
    max_positions: int = 1024
    rope_theta: float = 100_000.0
    copying_start: bool = True  # begin with a previous-token head and an induction head


@dataclass
class VocabularyConfig:
    """A byte-level BPE tokenizer."""

    size: int = 2048
    num_texts: int = 30_000  # generated texts that it is trained on
    seed: int = 7  # of those texts


@dataclass
class PretrainingTextConfig:
    """What the model reads."""

    block_length: int = 256  # tokens of a row
    rows_per_batch: int = 16
    library_share: float = 0.04  # rows that are a stretch of Python's standard library
    curriculum: float = 0.12  # share of the run in which functions grow from one step to five
    num_workers: int = 0  # processes that make batches
    num_val_batches: int = 8


@dataclass
class PretrainingOptimizationConfig:
    """Muon for matrices, AdamW for the rest; warm-up, constant, linear decay."""

    matrix_lr: float = 0.02
    other_lr: float = 2e-3
    matrix_weight_decay: float = 0.05
    warmup: float = 0.03  # share of the steps
    decay: float = 0.35  # share of the steps
    gradient_clip_norm: float = 1.0


@dataclass
class PretrainConfig:
    """The whole of ``python -m ift_lightning.pretrain``."""

    name: str = "tiny-base"
    seed: int = 0
    resume: bool = False  # go on from checkpoints/last.ckpt of hydra.run.dir
    num_steps: int = 1250
    precision: str = "bf16-mixed"  # Lightning's precision flag; weights are saved in bfloat16
    accelerator: str = "cpu"
    num_threads: int | None = None  # CPU threads; None: torch's own choice
    val_every_n_steps: int = 250
    save_every_n_steps: int = 50  # last.ckpt
    log_every_n_steps: int = 10
    progress_bar: bool = True
    run_dir: str = "${hydra:runtime.output_dir}"
    architecture: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    text: PretrainingTextConfig = field(default_factory=PretrainingTextConfig)
    optimization: PretrainingOptimizationConfig = field(
        default_factory=PretrainingOptimizationConfig
    )
    logger: LoggerConfig = MISSING
