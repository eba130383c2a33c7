"""`make bench`: ours and the peer in one run, and what a search costs as it grows.

    python -m benchmarks.run                                 the embedded images, a model trained on them
    python -m benchmarks.run --quick                         a few instances, to see that all of it works
    python -m benchmarks.run --weights w.npz --mnist m.npz   a given reference CNN and all of MNIST
    python -m benchmarks.run --parts quality --first 200     one part, on other instances

Tables (CSV and Markdown), the plot and the peer's own rows go to artifacts/bench/.
"""

import argparse
import os
from pathlib import Path

from benchmarks import machine, problem, quality, report, scaling

PARTS = ("quality", "instances", "batch_size", "share")


def main() -> None:
    arguments = _arguments()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    cores = len(os.sched_getaffinity(0))
    folder = arguments.output
    folder.mkdir(parents=True, exist_ok=True)

    quick = arguments.quick
    peer_rows, batch, rounds = (8, 32, 2) if quick else (40, 256, 2)
    given = problem.load(arguments.weights, arguments.mnist, arguments.first, batch if quick else scaling.REFERENCE)
    tables = {}
    if "quality" in arguments.parts:
        tables["quality"] = quality.compare(given.repeated(batch), peer_rows, rounds, cores, folder)
        quality.plot(tables["quality"], folder / "l1_against_time.png")
    if "instances" in arguments.parts:
        counts = [1, 10, 100] if quick else [1, 10, 100, 1_000, 10_000]
        tables["instances"] = scaling.by_instances(given, counts, cores)
    if "batch_size" in arguments.parts:
        sizes = [1, 8, 32] if quick else [1, 8, 32, 64, 128, 256, 512]
        tables["batch_size"] = scaling.by_batch_size(given, sizes[-1], sizes, cores)
    if "share" in arguments.parts:
        tables["share"] = scaling.share_of_model(given, 1 if quick else 6, cores)
    report.write(tables, folder, machine.describe())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help=".npz of the reference CNN's arrays, as get_weights() gives them")
    parser.add_argument(
        "--mnist", type=Path, default=os.environ.get("MNIST_NPZ"), help="MNIST in Keras's layout (default: MNIST_NPZ)"
    )
    parser.add_argument("--first", type=int, default=0, help="the first test image")
    parser.add_argument("--cores", type=int, default=None, help="how many cores either system may use (default: all)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true", help="few instances, for a look")
    parser.add_argument("--output", type=Path, default=Path("artifacts/bench"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
