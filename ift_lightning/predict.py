"""Ask a model: ``python -m ift_lightning.predict run=FOLDER [prompt=…] [input=FILE]``."""

from __future__ import annotations

from ift_lightning.config.checks import check_config
from ift_lightning.config.entry import entry_point, register_schema
from ift_lightning.config.evaluate_schema import PredictConfig
from ift_lightning.config.hub_access import go_offline_without_hub
from ift_lightning.config.run_options import take_over_run
from ift_lightning.config.schema import TrainConfig

register_schema("train", TrainConfig)


@entry_point("predict", PredictConfig, complete=take_over_run)
def main(config: PredictConfig) -> None:
    """Hold a conversation, answer one prompt, or answer a file of rows."""
    check_config(config, trains=False)
    go_offline_without_hub()
    from ift_lightning.predicting import predict

    predict(config)


if __name__ == "__main__":
    main()
