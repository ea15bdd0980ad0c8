"""README's program runs as it is written."""

import re
from pathlib import Path

from tests.programs import python

_README = Path(__file__).parents[1] / "README.md"


def test_the_program_runs_as_written(tmp_path):
    (program,) = re.findall(r"```python\n(.*?)```", _README.read_text(), re.DOTALL)
    # Compiled as users do, in seconds.
    users = {"JAX_DISABLE_MOST_OPTIMIZATIONS": None, "JAX_NUM_CPU_DEVICES": None}
    said = python(program, cwd=tmp_path, **users).stdout.splitlines()
    before, after = map(float, said[0].split())
    assert before > 0.95
    assert after > 0.9
    moved, drift = map(float, said[1].split(" beside "))
    assert 0 < drift < moved < 0.05
    assert (tmp_path / "NET").is_dir()
