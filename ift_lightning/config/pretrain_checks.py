"""Whether a pretraining config can work, said before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

from ift_lightning.config.pretrain_schema import PretrainConfig
from ift_lightning.errors import UserError

_SMALLEST_VOCABULARY = 259  # 256 bytes and three special tokens


def check_pretrain_config(config: PretrainConfig) -> None:
    """Refuse values that are out of range, or that do not fit each other.

    Raises:
        UserError: With the option and what to do.
    """
    for name, value, least in (
        ("num_steps", config.num_steps, 1),
        ("val_every_n_steps", config.val_every_n_steps, 1),
        ("save_every_n_steps", config.save_every_n_steps, 1),
        ("log_every_n_steps", config.log_every_n_steps, 1),
        ("vocabulary.size", config.vocabulary.size, _SMALLEST_VOCABULARY),
        ("text.rows_per_batch", config.text.rows_per_batch, 1),
        ("text.block_length", config.text.block_length, 2),
        ("text.num_val_batches", config.text.num_val_batches, 1),
    ):
        if value < least:
            raise UserError(f"{name}={value} has to be at least {least}")
    shape = config.architecture
    if shape.hidden_size % (2 * shape.num_heads):
        raise UserError(
            f"architecture.hidden_size={shape.hidden_size} has to be an even multiple of "
            f"architecture.num_heads={shape.num_heads}"
        )
    if config.text.block_length > shape.max_positions:
        raise UserError(
            f"text.block_length={config.text.block_length} is above "
            f"architecture.max_positions={shape.max_positions}"
        )
    if shape.copying_start and (shape.num_layers < 2 or shape.num_heads < 3):
        raise UserError(
            "architecture.copying_start needs two layers and three heads at least; "
            "architecture.copying_start=false does without"
        )
    if config.resume and not last_checkpoint(config).is_file():
        raise UserError(
            f"resume=true: there is no checkpoint in {config.run_dir}. Name the folder of the run "
            "to go on with: hydra.run.dir=FOLDER"
        )


def last_checkpoint(config: PretrainConfig) -> Path:
    """Return where a run keeps the state that it can be resumed from."""
    return Path(config.run_dir) / "checkpoints" / "last.ckpt"
