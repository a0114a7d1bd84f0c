"""Compare runs: ``python -m ift_lightning.report sweep=FOLDER``.

Or ``runs=[FOLDER,…]``, or ``before=FOLDER after=FOLDER``.
"""

from __future__ import annotations

from ift_lightning.config.entry import entry_point
from ift_lightning.config.report_schema import ReportConfig


@entry_point("report", ReportConfig)
def main(config: ReportConfig) -> None:
    """Write tables, figures and statistics of finished runs."""
    from ift_lightning.comparing import report

    report(config)


if __name__ == "__main__":
    main()
