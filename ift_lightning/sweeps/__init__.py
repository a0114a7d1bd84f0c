"""What happens around the points of a sweep: checks before, a table meanwhile, a report after.

Hydra's sweepers and launchers run the points. This package decides which of them still have to run,
keeps a failing one from stopping the others, and says in the end what came out.
"""
