"""The LightningModule, its callbacks, and the run record. Plain arguments, no configs."""
