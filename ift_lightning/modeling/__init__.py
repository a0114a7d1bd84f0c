"""Base models, adapters, the weighted loss, and optimizers. Plain arguments, no configs."""

from ift_lightning.modeling.notices import drop_harmless_log_lines

# Some of these lines are written while a library is imported, so this comes before all of them.
drop_harmless_log_lines()
