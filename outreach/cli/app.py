"""The entry point of `outreach`: light, so that Ctrl-C is heard before all is loaded; and the last net for errors."""

import os
import signal
import sys
from types import FrameType

#: `ExitCode.INTERRUPTED`, which is not loaded yet when it is needed.
_INTERRUPTED = 130


def main() -> None:
    """The entry point of the `outreach` script."""
    heard = (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )  # else somebody ignores it for us
    if heard:
        # Loading takes half a second. A KeyboardInterrupt in it would be a traceback, or be swallowed by an import.
        signal.signal(signal.SIGINT, _end_at_once)
    import stamina.instrumentation

    from outreach.cli.commands import app
    from outreach.cli.exit_codes import ExitCode
    from outreach.cli.output import fault_data, print_json, say

    # stamina would log each repeated call to stdout; the command tells how it ended instead.
    stamina.instrumentation.set_on_retry_hooks([])
    if heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        app(prog_name="outreach")
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output (`| head`) has seen enough. Nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.OK)
    except Exception as error:
        if os.environ.get("OUTREACH_DEBUG"):
            raise
        text = f"something that was not foreseen: {type(error).__name__}: {error}"
        if "--json" in sys.argv[1:]:
            print_json(fault_data("PROGRAM_FAULT", text))
        say(f"Error: {text}", "red")
        say("  This is a fault of the program. OUTREACH_DEBUG=1 shows where it happened.")
        sys.exit(ExitCode.FAULT)


def _end_at_once(_number: int, _frame: FrameType | None) -> None:
    """Nothing has begun, so nothing is to be put in order."""
    os._exit(_INTERRUPTED)
