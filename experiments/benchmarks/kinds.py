"""What the instructions of a compiled program are for, as far as their names tell.

XLA keeps for most instructions the path in the Python program that they come from:
`jit(next_step)/transpose(jvp(SEWResNet))/layer1_0/layer1_0._fire/bn1/mul` is of the
backward pass of a normalisation. A fusion has the path of one of the instructions in
it, usually the last.
"""

import re
from collections import Counter

from .hlo import Instruction, Module
from .traffic import Moved

PATHS = (
    ("optimizer", r"(^|/)optimizer/"),
    ("data", r"(^|/)data/|^data\[|/augment/|_randint|_bernoulli"),
    ("counts", r"^jit\(count\)/(?!.*ResNet)"),
    ("normalisation", r"/(bn\d?|downsample_bn)(/|$)"),
    ("neurons", r"/(sn\d?|downsample_sn)(/|$)"),
    ("activations", r"/act\d?(/|$)"),
    ("beside convolutions", r"/(conv\d?|downsample_conv)(/|$)"),
    ("joins", r"/layer\d+_\d+/(add|sub|mul|and)$|/add_any$"),
    ("encoding", r"ResNet\)*/\w+$"),
    ("classifier", r"/fc(/|$)|\.classify/"),
    ("normalisation and neurons", r"\._fire/"),
)
"""What a path is of; the first expression that is found in it decides.

Modules are called as `ResidualNetwork.layers_in_order` says, and scopes as
`named_scope` in steps does. The encoding is what a network does by itself: it repeats a
still image. Beside convolutions stand the quantizers of their kernels, changes of dtype
and the strides of those of 1x1; what a unit does beside its layers is of both
normalisation and neurons.
"""

RELAYOUTS, VECTOR_MEMORY, OTHER = "relayouts", "to and from vector memory", "other"
FORWARD = "convolution forward"
INPUT, KERNEL = (f"convolution gradient of {x}" for x in ("input", "kernel"))
_CUDNN = {
    "__cudnn$convForward": FORWARD,
    "__cudnn$convBiasActivationForward": FORWARD,
    "__cudnn$convBackwardInput": INPUT,
    "__cudnn$convBackwardFilter": KERNEL,
}
_PRODUCTS = {"convolution", "dot"}
_MOVES = {
    *("parameter", "constant", "bitcast", "copy", "transpose", "reshape"),
    *("tuple", "get-tuple-element"),
}
_ONE_PASS = {"optimizer", "data", "counts", "classifier"}
"""Kinds that are not told apart by forward and backward pass."""


def by_kind(module: Module, moved: list[Moved]) -> dict[str, float]:
    """Bytes of each kind, the largest first."""
    sums: Counter[str] = Counter()
    for one in moved:
        sums[kind(module, one.instruction)] += one.total
    return dict(sums.most_common())


def kind(module: Module, one: Instruction) -> str:
    """What an instruction is for."""
    inside = list(_inside(module, one))
    if (product := _product(inside)) is not None:
        return _kind_of_product(product)
    if one.opcode.startswith(("all-", "reduce-scatter", "collective-")):
        return "between devices"
    if one.opcode.endswith("-start"):
        return VECTOR_MEMORY
    if {each.opcode for each in inside} <= _MOVES:
        return RELAYOUTS
    return _kind_of_path(one.op_name or _most_frequent(inside))


def _inside(module, one):
    """An instruction, or those that are fused into it."""
    if one.opcode != "fusion":
        yield one
        return
    for each in module.computations[one.called[0]].values():
        yield from _inside(module, each)


def _product(inside):
    """The convolution or matrix product among instructions, or None."""
    for one in inside:
        if one.opcode in _PRODUCTS or one.target in _CUDNN or _is_matmul(one):
            return one
    return None


def _is_matmul(one):
    return one.target.startswith("__cublas")


def _kind_of_product(one):
    if one.target in _CUDNN:
        return _CUDNN[one.target]
    if _place(one.op_name) == "classifier":
        return "classifier"
    if not _is_backward(one.op_name):
        return FORWARD
    return KERNEL if _is_of_kernel(one) else INPUT


def _is_of_kernel(one):
    """Whether a product of the backward pass is the gradient of a kernel.

    It is convolved with a whole image, and what comes out is as small as a kernel.
    """
    window = one.attribute(r"window=\{size=([\dx]+)")
    labels = one.attribute(r"dim_labels=\S*->(\w+)")
    sides = [one.arrays[0].dims[k] for k, axis in enumerate(labels) if axis.isdigit()]
    if window and sides:
        return max(map(int, window.split("x"))) > max(sides)
    # A product of matrices: a kernel 1x1 has two axes and no image.
    return len([n for n in one.arrays[0].dims if n > 1]) <= 2


def _kind_of_path(path):
    place = _place(path)
    if place in _ONE_PASS or place == OTHER:
        return place
    return f"{place} {'backward' if _is_backward(path) else 'forward'}"


def _place(path):
    """What a path is of."""
    found = (name for name, pattern in PATHS if re.search(pattern, path))
    return next(found, OTHER)


def _is_backward(path):
    return "transpose(jvp" in path


def _most_frequent(inside):
    """The path that most of the instructions in a fusion have."""
    names = Counter(one.op_name for one in inside if _place(one.op_name) != OTHER)
    return names.most_common(1)[0][0] if names else ""
