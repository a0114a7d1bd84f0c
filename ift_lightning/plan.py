"""``python -m ift_lightning.plan``: what a config will cost. Not there yet: it says so."""

from ift_lightning.config.unavailable import refuse_command

if __name__ == "__main__":
    refuse_command(
        "plan",
        "parameters, memory, tokens, steps and time of a config",
        "A run with trainer=smoke shows parameters, tokens and memory after two steps.",
    )
