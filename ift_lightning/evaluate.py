"""Evaluate a model: ``python -m ift_lightning.evaluate run=FOLDER``, or ``model=… data=…``."""

from __future__ import annotations

from ift_lightning.config.checks import check_config
from ift_lightning.config.entry import entry_point, register_schema
from ift_lightning.config.evaluate_schema import EvaluateConfig
from ift_lightning.config.hub_access import go_offline_without_hub
from ift_lightning.config.run_options import take_over_run
from ift_lightning.config.schema import TrainConfig

register_schema("train", TrainConfig)


@entry_point("evaluate", EvaluateConfig, complete=take_over_run)
def main(config: EvaluateConfig) -> None:
    """Generate answers to the test rows, run and score them, write ``predictions.jsonl``."""
    check_config(config, trains=False)
    go_offline_without_hub()
    from ift_lightning.evaluation_runs import evaluate

    evaluate(config)


if __name__ == "__main__":
    main()
