"""`python -m benchmarks`: ask the questions and write RESULTS.md."""

from __future__ import annotations

import argparse
import compileall
import importlib
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

from benchmarks.answer import QUESTIONS, Bench, write
from benchmarks.tools import tools, version

_HERE = Path(__file__).parent
_PEERS = Path("out/bench/peers")
_TRAINERS = Path("out/bench/trainers")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=", ".join(QUESTIONS))
    parser.add_argument("--quick", action="store_true", help="a tiny size, to see that they work")
    parser.add_argument("--peers", type=Path, default=_PEERS, help="the peers' environment")
    parser.add_argument("--trainers", type=Path, default=_TRAINERS, help="litgpt's environment")
    parser.add_argument("--out", type=Path, default=_HERE, help="folder of RESULTS.md")
    options = parser.parse_args()
    if unknown := set(options.questions) - set(QUESTIONS):
        parser.error(f"no such question: {', '.join(unknown)}. There are {', '.join(QUESTIONS)}")
    peers, trainers = (
        folder.resolve() if (folder / ".installed").exists() else None
        for folder in (options.peers, options.trainers)
    )
    if peers is None:
        print(f"No peers in {options.peers}: carbontrack is measured alone.", file=sys.stderr)
    for package in (
        "carbontrack",
        "dashboards",
    ):  # as pip did with the peers when it installed them
        compileall.compile_dir(_HERE.parent / package, quiet=1)
    versions = {tool.name: version(tool) for tool in tools(peers)}
    failed = []
    for name in options.questions or QUESTIONS:
        print(f"{name} ...", flush=True)
        began_s, load = time.monotonic(), os.getloadavg()[0]
        try:
            with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as folder:
                question = importlib.import_module(f"benchmarks.{name}")
                tables = question.ask(Bench(Path(folder), peers, trainers, options.quick))
        except Exception:  # the other questions are still answered
            traceback.print_exc()
            failed.append(name)
            continue
        for table in tables:
            print(f"\n{table.markdown}\n", flush=True)
        write(name, tables, time.monotonic() - began_s, versions, options.out, load=load)
    print(f"Written: {options.out / 'RESULTS.md'}")
    if failed:
        sys.exit(f"Not answered, and as it was in RESULTS.md: {', '.join(failed)}")


if __name__ == "__main__":
    main()
