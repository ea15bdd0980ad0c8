"""Quantized spiking networks, judged by what quantization does to their behaviour.

    import jsnnq

    network = jsnnq.sew_resnet("sew_resnet18", classes=10)
    variables = network.init(key, images)
    logits, seen = network.apply(variables, images)       # seen.spikes: T B H W C

Arrays are `T B H W C` everywhere, time first and channels last. The public names stand
in `__init__.pyi`, each beside the room it is made in, and one is imported when it is
first used; every room of the package can be imported for more.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
