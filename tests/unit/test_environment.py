"""What importing the package sets for libraries that read the environment when they load."""

import os
import subprocess
import sys

import pytest

_SHOW = "import os, outreach; print(os.environ['GRPC_VERBOSITY'])"


@pytest.mark.parametrize(("given", "found"), [({}, "ERROR"), ({"GRPC_VERBOSITY": "INFO"}, "INFO")])
def test_grpc_says_nothing_beside_our_lines_unless_it_is_asked_to(
    given: dict[str, str], found: str
) -> None:
    rest = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    ran = subprocess.run(
        [sys.executable, "-c", _SHOW],
        env={**rest, **given},
        capture_output=True,
        check=True,
        text=True,
    )
    assert ran.stdout.strip() == found
