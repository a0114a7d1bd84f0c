"""``python -m ift_lightning.prepare``: data tools.

Not there yet: it says so and exits with status 1.
"""

from ift_lightning.config.unavailable import refuse_command

if __name__ == "__main__":
    refuse_command(
        "prepare",
        "data tools",
        "Rows are read as they are; see data.form and data.fields.",
    )
