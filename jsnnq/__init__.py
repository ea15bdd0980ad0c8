"""Quantized spiking networks, judged by what quantization does to their behaviour.

    import jsnnq

    network = jsnnq.sew_resnet("sew_resnet18", classes=10)
    variables = network.init(key, images)
    logits, seen = network.apply(variables, images)       # seen.spikes: T B H W C

Arrays are `T B H W C` everywhere, time first and channels last. The public names stand
in `__init__.pyi`, each beside the room it is made in, and one is imported when it is
first used; every room of the package can be imported for more.
"""

import sys
from typing import Any

import lazy_loader

from jsnnq import renamed
from jsnnq.errors import check_compiler

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
if not any(isinstance(finder, renamed.Finder) for finder in sys.meta_path):
    sys.meta_path.append(renamed.Finder())


def __getattr__(name: str) -> Any:
    if name == "step":
        raise AttributeError(
            "jsnnq.step is called jsnnq.stream, one timestep of a network; a step of "
            "training is jsnnq.train_step"
        )
    if name in __all__:
        check_compiler()
    return _load(name)
