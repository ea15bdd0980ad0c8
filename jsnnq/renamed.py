"""Names of version 0.1, which answer for one version with a warning.

Rooms that stood in the package itself are found where they stand now, and of those that
are packages today what one used of the room of that name.
"""

import importlib
import importlib.abc
import importlib.machinery
import types
import warnings
from collections.abc import Callable
from typing import Any

_SAME = {
    "analysis": "firing emd cost evaluate",
    "data": "prepare",
    "networks": "layers convolve neurons surrogate resnet sew bnn",
    "report": "results groups tables",
    "report.plots": "scatter histograms inside",
    "runtime": "hugepages interrupt files provenance parallel compiling checkpoint",
    "study": "build optimizer run budget default smoke",
    "training": "divergence probe monitor",
}
"""Rooms that have kept their name, by the package in which they stand today."""

ROOMS = {
    name: f"{package}.{name}"
    for package, names in _SAME.items()
    for name in names.split()
} | {
    "batching": "data.batches",
    "records": "data.streams",
    "losses": "networks.readout",
    "states": "networks.quantize",
    "encode": "networks.timesteps",
    "measure": "analysis.describe",
    "footprint": "analysis.firing",
    "descent": "training.step",
    "train": "training.loop",
    "verdict": "report.summary",
    "claims": "report.comparisons",
    "evidence": "report.comparisons",
    "names": "report.meaning",
    "pictures": "report.plots.gallery",
    "drawing": "report.plots.style",
    "standings": "report.plots.methods",
    "charts": "report.plots.heatmap",
    "plan": "study.jobs",
    "ledger": "study.folder",
    "stored": "study.saved",
}
"""Where a room of the flat package stands today."""

ELSEWHERE = {"binary": "experiments.stompp.base"}
"""Rooms of a paper, which stand beside its experiments."""


FUNCTIONS = {"evaluate": "jsnnq.workflow.evaluate"}
"""Rooms whose name is that of a function today, by where it stands."""


class _Function(types.ModuleType):
    """Such a room; once it is imported it stands where the function stood."""

    def __call__(self, *given, **named):
        name = self.__name__.removeprefix("jsnnq.")
        return getattr(importlib.import_module(FUNCTIONS[name]), name)(*given, **named)


def attributes_of(room: str, *names: str) -> Callable[[str], Any]:
    """A module's `__getattr__`, for what moved from it to another room.

    Args:
        room: where it stands now.
        names: what moved.
    """

    def found(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"there is no {name!r} here")
        try:
            value = getattr(_room(room, name), name)
        except ModuleNotFoundError as error:
            raise AttributeError(str(error)) from error
        _warn(name, f"{room}.{name}")
        return value

    return found


def answers(**old: tuple[str, Any]) -> Callable[[str], Any]:
    """A module's `__getattr__`, for functions that another one does the work of.

    Args:
        **old: by old name, how it is written now, and the function that does it.
    """

    def found(name: str) -> Any:
        if name not in old:
            raise AttributeError(f"there is no {name!r} here")
        today, function = old[name]
        _warn(name, today)
        return function

    return found


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds rooms by their old names: `import jsnnq.emd`."""

    def find_spec(self, fullname, path=None, target=None):
        """Where a name of ours stands today, if it is an old one."""
        package, _, name = fullname.rpartition(".")
        if package != "jsnnq" or name not in ROOMS | ELSEWHERE:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec):
        """An empty module that asks the room of today for everything."""
        name = spec.name.removeprefix("jsnnq.")
        today = f"jsnnq.{ROOMS[name]}" if name in ROOMS else ELSEWHERE[name]
        room = _room(today, spec.name)
        _warn(spec.name, today)
        made = _Function if name in FUNCTIONS else types.ModuleType
        module = made(spec.name, room.__doc__)
        vars(module)["__getattr__"] = lambda attribute: getattr(room, attribute)
        return module

    def exec_module(self, module):
        """Nothing: what it has is asked for."""


def _room(today: str, old: str) -> types.ModuleType:
    """Where a name stands now; a paper's room is there with its experiments only."""
    try:
        return importlib.import_module(today)
    except ModuleNotFoundError as error:
        if not today.startswith(error.name or today):
            raise  # Something else is missing, of which its own words tell more.
        raise ModuleNotFoundError(
            f"{old} is no longer part of the library: it stands beside the "
            f"experiments, in {today}"
        ) from error


def _warn(old: str, new: str) -> None:
    warnings.warn(
        f"{old} is called {new}; the old name will be gone in 0.3",
        DeprecationWarning,
        stacklevel=4,
    )
