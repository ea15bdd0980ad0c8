"""The family of quantizers; each member can take another's place."""

from jsnnq.quantizers.base import Quantizer as Quantizer
from jsnnq.quantizers.base import identity as identity
from jsnnq.quantizers.lqnet import LQNet as LQNet
from jsnnq.quantizers.mint import Mint as Mint
from jsnnq.quantizers.snntorch import SnnTorch as SnnTorch
from jsnnq.quantizers.ste import STE as STE
from jsnnq.quantizers.stompp import StoMPP as StoMPP
from jsnnq.quantizers.uniform import Uniform as Uniform
