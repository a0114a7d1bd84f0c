"""Base models, adapters, the weighted loss, and optimizers. Plain arguments, no configs."""
