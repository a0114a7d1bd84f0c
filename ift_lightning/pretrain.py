"""``python -m ift_lightning.pretrain``: makes the bundled base model again.

Not there yet: it says so and exits with status 1.
"""

from ift_lightning.config.unavailable import refuse_command

if __name__ == "__main__":
    refuse_command(
        "pretrain",
        "makes the bundled base model again",
        "Use model=local model.path=FOLDER.",
    )
