"""`python -m benchmarks [NAMES…]`: run benchmarks, print what they find, keep it."""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import (
    assignment,
    codebook,
    dkm,
    driver_memory,
    extraction,
    joint_step,
    shard_format,
    step_shares,
    table,
    workers,
)
from benchmarks.record import Record, surroundings, write

BENCHMARKS: dict[str, Callable[[str, torch.device], Record]] = {
    "dkm": dkm.run,
    "assignment": assignment.run,
    "codebook": codebook.run,
    "joint_step": joint_step.run,
    "extraction": extraction.run,
    "driver_memory": driver_memory.run,
    "shard_format": shard_format.run,
    "step_shares": step_shares.run,
    "workers": workers.run,
}
RECORDS = Path(__file__).with_name("records")


def main() -> None:
    arguments = parse()
    device = torch.device(arguments.device)
    kept = arguments.records or (RECORDS if arguments.size == "full" else None)
    found_here = surroundings(device)
    for name in arguments.names or BENCHMARKS:
        record = BENCHMARKS[name](arguments.size, device).as_json(found_here)
        table.show(record)
        if kept is not None:
            print(f"written to {write(record, kept)}")
    if kept == RECORDS:
        readme = table.README.read_text(encoding="utf-8")
        table.README.write_text(table.with_records(readme, RECORDS), encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--size", choices=("full", "small"), default="full", help="small: only whether it works"
    )
    parser.add_argument(
        "--records",
        type=Path,
        help="folder for the records; by default those of full size go to tests/benchmarks/records",
    )
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}: there are {', '.join(BENCHMARKS)}")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device is here: use --device cpu")
    return arguments


if __name__ == "__main__":
    main()
