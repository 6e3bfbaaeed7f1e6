"""`python -m chaos`: runs under faults, and what they have kept.

python -m chaos run 1-200 --jobs 2     play seeds and check their histories
python -m chaos plan 7                 what a seed does
python -m chaos list                   the kinds of faults
python -m chaos check FILE             check a kept history once more
python -m chaos breaks [NAME …]        break the product on purpose, and see which invariant tells of it
python -m chaos soak 60                send for so many minutes, with a fault every minute
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

import stamina.instrumentation
import structlog

from chaos.breaking import run_breaks
from chaos.breaks import BREAKS
from chaos.checker import check
from chaos.faults import FAULTS
from chaos.history_file import read_history
from chaos.plan import MESSAGES, make_plan
from chaos.seeds import Options, parse_seeds, run_here, run_seeds
from chaos.soak import command as soak


def main() -> int:
    """0: every promise was kept; 1: one was broken, or a run could not be made."""
    # stamina would log each repeated call, and our own NATS connection its losses.
    stamina.instrumentation.set_on_retry_hooks([])
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    arguments = _parser().parse_args()
    command: str = arguments.command
    if command == "run":
        options = Options(
            messages=arguments.messages,
            kinds=arguments.kinds,
            long=arguments.long,
            keep_dir=arguments.keep,
        )
        if arguments.outcome is not None:
            try:
                return asyncio.run(run_here(arguments.seeds[0], options, arguments.outcome))
            except asyncio.CancelledError:
                return 130  # a signal; whoever began this run knows
        return asyncio.run(run_seeds(arguments.seeds, options, jobs=arguments.jobs))
    if command == "plan":
        print(make_plan(arguments.seed, messages=arguments.messages).describe())
        return 0
    if command == "breaks":
        return 0 if asyncio.run(run_breaks(arguments.names or [*BREAKS])) else 1
    if command == "list":
        width = max(map(len, FAULTS))
        for kind in sorted(FAULTS):
            print(f"{kind:<{width}}  {FAULTS[kind].summary}")
        return 0
    if command == "soak":
        return soak.main(arguments)
    return _check(arguments.file)


def _check(path: Path) -> int:
    violations = check(read_history(path))
    for violation in violations:
        print(violation.invariant, violation.campaign_id, violation.text)
    print(f"{len(violations)} violations")
    return 1 if violations else 0


def _break_name(text: str) -> str:
    if text not in BREAKS:
        raise argparse.ArgumentTypeError(f"no break {text!r}; there are {', '.join(BREAKS)}")
    return text


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(filter(None, text.split(",")))
    unknown = sorted(set(kinds) - set(FAULTS))
    if unknown:
        names = ", ".join(unknown)
        raise argparse.ArgumentTypeError(f"no kind {names}; `python -m chaos list` has all kinds")
    return kinds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="play seeds and check their histories")
    run.add_argument("seeds", type=parse_seeds, help="as in 7, 1-200 or 1,5,9-12")
    run.add_argument("--messages", type=int, default=MESSAGES, help="of each of two campaigns")
    run.add_argument(
        "--kinds", type=_kinds, default=(), help="only these kinds of faults, comma-separated"
    )
    run.add_argument("--long", action="store_true", help="the long forms, of two minutes")
    run.add_argument("--jobs", type=int, default=1, help="runs at a time")
    run.add_argument("--keep", type=Path, help="where histories and logs of failed runs go")
    run.add_argument("--outcome", type=Path, help=argparse.SUPPRESS)
    plan = commands.add_parser("plan", help="say what a seed does")
    plan.add_argument("seed", type=int)
    plan.add_argument("--messages", type=int, default=MESSAGES)
    soak.add_arguments(commands.add_parser("soak", help="send for long, and watch for leaks"))
    commands.add_parser("list", help="list the kinds of faults")
    breaking = commands.add_parser("breaks", help="break the product on purpose")
    breaking.add_argument("names", nargs="*", type=_break_name, metavar="NAME")
    checking = commands.add_parser("check", help="check a kept history")
    checking.add_argument("file", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
