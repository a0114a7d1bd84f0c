"""Raw rows, records, variants of them, and the batches they are trained in."""
