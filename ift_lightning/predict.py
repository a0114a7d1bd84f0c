"""``python -m ift_lightning.predict``: answers prompts with a trained model.

Not there yet: it says so and exits with status 1.
"""

from ift_lightning.config.unavailable import refuse_command

if __name__ == "__main__":
    refuse_command(
        "predict",
        "answers prompts with a trained model",
        "Load the run's adapter folder with peft.PeftModel.",
    )
