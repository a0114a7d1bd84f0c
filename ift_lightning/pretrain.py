"""Make the bundled base model from nothing: ``python -m ift_lightning.pretrain [overrides]``."""

from __future__ import annotations

from ift_lightning.config.entry import entry_point
from ift_lightning.config.pretrain_checks import check_pretrain_config
from ift_lightning.config.pretrain_schema import PretrainConfig


@entry_point("pretrain", PretrainConfig)
def main(config: PretrainConfig) -> float:
    """Train a tokenizer and a small causal language model; return the last ``val/loss``."""
    check_pretrain_config(config)
    from ift_lightning.pretraining import pretrain

    return pretrain(config)


if __name__ == "__main__":
    main()
