"""``python -m ift_lightning.report``: tables, plots and statistics of runs.

Not there yet: it says so and exits with status 1.
"""

from ift_lightning.config.unavailable import refuse_command

if __name__ == "__main__":
    refuse_command(
        "report",
        "tables, plots and statistics of runs",
        "Every run's numbers are in its run.json.",
    )
