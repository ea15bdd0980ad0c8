"""Programs in a Python of their own."""

import os
import subprocess
import sys


def python(code, *arguments, returns=0, cwd=None, **environment):
    """Runs code to its end; of its environment, None takes a variable out."""
    changed = os.environ | environment
    found = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        env={name: value for name, value in changed.items() if value is not None},
        capture_output=True,
        text=True,
    )
    assert found.returncode == returns, found.stderr
    return found
