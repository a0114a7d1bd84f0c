"""How many programs a second the sandbox runs, isolation included.

python experiments/sandbox_speed/benchmark.py [HumanEval.jsonl.gz] [--repeats 3]
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path

from ift_lightning.errors import UserError
from ift_lightning.evaluation.sandbox import Level, Program, Sandbox, SandboxLimits

NUM_TRIVIAL = 500
NUM_CANDIDATES = 10
LIMITS = SandboxLimits(seconds_per_program=20)


def trivial_programs() -> list[Program]:
    tests = [{"args": [number], "expected": number + 1} for number in range(3)]
    code = "def f(x):\n    return x + 1\n"
    return [Program(str(number), code, "f", tests) for number in range(NUM_TRIVIAL)]


def humaneval_candidates(path: Path) -> list[Program]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [
        Program(
            f"{row['task_id']}#{number}",
            row["prompt"] + row["canonical_solution"],
            row["entry_point"],
            row["test"],
        )
        for row in rows
        for number in range(NUM_CANDIDATES)
    ]


def measure(level: Level, programs: list[Program]) -> tuple[float, float]:
    """Return the seconds that entering takes, and those that the programs take."""
    started = time.perf_counter()
    with Sandbox(LIMITS, level) as sandbox:
        entered = time.perf_counter()
        outcomes = list(sandbox.run(programs))
        ended = time.perf_counter()
    failed = [outcome for outcome in outcomes if outcome.verdict != "pass"]
    assert not failed, failed[:3]
    return entered - started, ended - entered


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("humaneval", nargs="?", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    workloads = {"trivial": trivial_programs()}
    if options.humaneval:
        workloads[f"HumanEval x {NUM_CANDIDATES}"] = humaneval_candidates(options.humaneval)
    for level in (Level.BUBBLEWRAP, Level.NAMESPACES, Level.LANDLOCK_SECCOMP):
        for name, programs in workloads.items():
            try:
                results = [measure(level, programs) for _ in range(options.repeats)]
            except UserError as error:
                print(f"{level}: {error}")
                break
            starts = ", ".join(f"{start:.2f}" for start, _ in results)
            times = ", ".join(f"{seconds:.1f}" for _, seconds in results)
            rates = ", ".join(f"{len(programs) / seconds:.0f}" for _, seconds in results)
            line = f"{level} | {name}, {len(programs)} | {starts} | {times} | {rates}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
