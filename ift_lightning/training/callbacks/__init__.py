"""What watches a run: progress, memory, adapters, checkpoints and the run record."""
