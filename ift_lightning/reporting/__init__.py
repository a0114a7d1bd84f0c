"""From run records and per-item outcomes to statistics, tables, figures and pages."""
