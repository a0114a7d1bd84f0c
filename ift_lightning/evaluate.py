"""``python -m ift_lightning.evaluate``: generates, scores, writes predictions.

Not there yet: it says so and exits with status 1.
"""

from ift_lightning.config.unavailable import refuse_command

if __name__ == "__main__":
    refuse_command(
        "evaluate",
        "generates, scores, writes predictions",
        "Training reports test loss before and after.",
    )
