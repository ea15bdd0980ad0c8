"""Quantized spiking networks, judged by what quantization does to their behaviour.

    import jsnnq

    network = jsnnq.sew_resnet("sew_resnet18", classes=10)
    variables = network.init(key, images)
    logits, seen = network.apply(variables, images)       # seen.spikes: T B H W C

Arrays are `T B H W C` everywhere, time first and channels last. The names below are
the public ones; every room of the package can be imported for more.
"""

from jsnnq.bnn import BinaryResNet as BinaryResNet
from jsnnq.bnn import binary_resnet as binary_resnet
from jsnnq.config import Config as Config
from jsnnq.data import load as load_data
from jsnnq.emd import Distances as Distances
from jsnnq.emd import compare as compare
from jsnnq.emd import compare_matched as compare_matched
from jsnnq.emd import matched as matched
from jsnnq.emd import wasserstein as wasserstein
from jsnnq.errors import InputError as InputError
from jsnnq.firing import rates as rates
from jsnnq.layers import Rules as Rules
from jsnnq.neurons import Neuron as Neuron
from jsnnq.neurons import unroll as unroll
from jsnnq.quantizers import Quantizer as Quantizer
from jsnnq.quantizers import identity as identity
from jsnnq.quantizers import lqnet as lqnet
from jsnnq.quantizers import mint as mint
from jsnnq.quantizers import snntorch as snntorch
from jsnnq.quantizers import ste as ste
from jsnnq.quantizers import stompp as stompp
from jsnnq.quantizers import uniform as uniform
from jsnnq.sew import SEWResNet as SEWResNet
from jsnnq.sew import init_state as init_state
from jsnnq.sew import sew_resnet as sew_resnet
from jsnnq.sew import step as step
from jsnnq.study import Study as Study

__all__ = [
    "BinaryResNet",
    "Config",
    "Distances",
    "InputError",
    "Neuron",
    "Quantizer",
    "Rules",
    "SEWResNet",
    "Study",
    "binary_resnet",
    "compare",
    "compare_matched",
    "identity",
    "init_state",
    "load_data",
    "lqnet",
    "matched",
    "mint",
    "rates",
    "sew_resnet",
    "snntorch",
    "ste",
    "step",
    "stompp",
    "uniform",
    "unroll",
    "wasserstein",
]
