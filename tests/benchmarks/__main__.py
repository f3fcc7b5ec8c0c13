"""`python -m benchmarks [NAMES…]`: run benchmarks, print what they find, keep it."""

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch

from benchmarks import table
from benchmarks.record import Record, surroundings, write

# A benchmark's module is imported when it runs: some need more packages than others.
BENCHMARKS = (
    "dkm",
    "assignment",
    "codebook",
    "joint_step",
    "decoding",
    "vocoder",
    "ssl_forward",
    "extraction",
    "driver_memory",
    "shard_format",
    "purity",
    "step_shares",
    "workers",
)
# Whatever the device is.
ON_CPU_ALONE = {"codebook", "driver_memory", "shard_format", "purity", "workers"}
RECORDS = Path(__file__).with_name("records")


def main() -> None:
    arguments = parse()
    device = torch.device(arguments.device)
    kept = arguments.records or (RECORDS if arguments.size == "full" else None)
    found_here = surroundings(device)
    for name in arguments.names:
        options = {"without_ray": True} if arguments.without_ray and name == "extraction" else {}
        record = benchmark(name)(arguments.size, device, **options).as_json(found_here)
        table.show(record)
        if kept is not None:
            print(f"written to {write(record, kept)}")
    if kept == RECORDS:
        readme = table.README.read_text(encoding="utf-8")
        table.README.write_text(table.with_records(readme, RECORDS), encoding="utf-8")


def benchmark(name: str) -> Callable[..., Record]:
    run: Callable[..., Record] = import_module(f"benchmarks.{name}").run
    return run


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--size", choices=("full", "small"), default="full", help="small: only whether it works"
    )
    parser.add_argument(
        "--without-ray", action="store_true", help="extraction: one worker, in this process"
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
    on_gpu = arguments.device == "cuda"
    if on_gpu and (named := sorted(ON_CPU_ALONE.intersection(arguments.names))):
        parser.error(f"{', '.join(named)}: computed on the CPU alone: leave --device out")
    arguments.names = arguments.names or [
        name for name in BENCHMARKS if not (on_gpu and name in ON_CPU_ALONE)
    ]
    return arguments


if __name__ == "__main__":
    main()
