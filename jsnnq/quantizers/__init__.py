"""The family of quantizers; each member can take another's place."""

from jsnnq.quantizers.base import Quantizer as Quantizer
from jsnnq.quantizers.base import identity as identity
from jsnnq.quantizers.lqnet import lqnet as lqnet
from jsnnq.quantizers.mint import mint as mint
from jsnnq.quantizers.snntorch import snntorch as snntorch
from jsnnq.quantizers.ste import ste as ste
from jsnnq.quantizers.stompp import stompp as stompp
from jsnnq.quantizers.stompp import windows as windows
from jsnnq.quantizers.uniform import uniform as uniform
