"""Runs a service as `python -m services.campaign` does, and lets faults reach into it.

    python -m chaos.process services.campaign

`OUTREACH_CHAOS_CONTROL_DIR` names its control directory (`chaos.control`): it dies at an armed crash point, its wall
clock jumps, and it writes there how many tasks it has. `OUTREACH_CHAOS_BREAK` names a deliberate break of the product
that is installed first (`chaos.breaks`), to show that the checker finds it.
"""

from __future__ import annotations

import importlib
import os
import runpy
import sys
import threading
import time
from pathlib import Path

from chaos import clock
from chaos.control import BREAK_VARIABLE, CONTROL_VARIABLE, Control

_LOOK_SECONDS = 0.02


def main() -> None:
    """Run the module that is named on the command line."""
    clock.install()
    module = sys.argv[1]
    directory = os.environ.get(CONTROL_VARIABLE)
    if directory:
        _follow(Control(Path(directory)))
        _count_tasks(Path(directory))
    name = os.environ.get(BREAK_VARIABLE)
    if name:
        importlib.import_module("chaos.breaks").BREAKS[name]()
    sys.argv[:] = [module, *sys.argv[2:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _count_tasks(directory: Path) -> None:
    # Late, too.
    from chaos.task_count import count_tasks

    count_tasks(directory)


def _follow(control: Control) -> None:
    """Do what the control directory says, from the first moment on."""
    # Late: this imports what the clock has to be installed before.
    from chaos.crashes import CrashHook
    from outreach.crash_points import set_hook

    hook = CrashHook(control)

    def look() -> None:
        clock.shift(control.clock_shift_seconds())
        hook.follow(control.armed())

    def keep_looking() -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            look()

    look()
    set_hook(hook.reached)
    threading.Thread(target=keep_looking, name="chaos-control", daemon=True).start()


if __name__ == "__main__":
    main()
