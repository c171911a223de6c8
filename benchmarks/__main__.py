"""`python -m benchmarks`: ask the questions and write RESULTS.md."""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from pathlib import Path

from benchmarks.answer import Bench, write
from benchmarks.tools import tools, version

HERE = Path(__file__).parent
QUESTIONS = ("energy_truth", "kill", "watching", "ledger", "training", "projection")
PEERS = Path("out/bench/peers")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=", ".join(QUESTIONS))
    parser.add_argument("--quick", action="store_true", help="a tiny size, to see that they work")
    parser.add_argument("--peers", type=Path, default=PEERS, help="the peers' environment")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of RESULTS.md")
    options = parser.parse_args()
    if unknown := set(options.questions) - set(QUESTIONS):
        parser.error(f"no such question: {', '.join(unknown)}. There are {', '.join(QUESTIONS)}")
    peers = options.peers.resolve() if options.peers.exists() else None
    versions = {tool.name: version(tool) for tool in tools(peers)}
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.questions or QUESTIONS:
        print(f"{name} ...", flush=True)
        began_s = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as folder:
            question = importlib.import_module(f"benchmarks.{name}")
            tables = question.ask(Bench(Path(folder), peers, options.quick))
        for table in tables:
            print(f"\n{table.markdown}\n", flush=True)
        write(name, tables, time.monotonic() - began_s, versions, options.out)
    print(f"Written: {options.out / 'RESULTS.md'}")


if __name__ == "__main__":
    main()
