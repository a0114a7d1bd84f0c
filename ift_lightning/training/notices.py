"""What Lightning says that means nothing to a user of this package, kept from being shown."""

from __future__ import annotations

import logging
import warnings

_HARMLESS = (
    ".*does not have many workers.*",  # batches come ready from a memory-mapped file
    ".*no `train_dataloader` to be run.*",
    ".*Checkpoint directory .* exists and is not empty.*",  # so it is when resuming
    ".*in eval mode at the start of training.*",  # from_pretrained leaves it so; we set it
    ".*is a slow conversion.*",
    ".*`srun` command is available.*",  # one process was asked for
    ".*It is recommended to use `self.log.*sync_dist=True.*",  # they are sums over all ranks
    ".*Since DeepSpeed handles gradient clipping internally.*",  # as our own hook knows
    ".*`torch.distributed\\.\\w+` is deprecated.*",  # DeepSpeed calls these
    ".*number of training batches .* is smaller than the logging interval.*",  # we log ourselves
    ".*isinstance\\(treespec, LeafSpec\\).*",
)


def quiet_lightning() -> None:
    """Let through only the warnings that a user can do something about."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for text in _HARMLESS:
        warnings.filterwarnings("ignore", text)
