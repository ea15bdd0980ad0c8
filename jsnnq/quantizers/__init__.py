"""The family of quantizers; each member can take another's place.

`uniform` grids, `lqnet`'s learned bases, `mint`, `snntorch`'s levels, and the signs of
`ste` and `stompp`; over what all of them have in common (`base`) and the roundings with
gradients of their own (`primitives`).
"""

from jsnnq.quantizers.base import Quantizer as Quantizer
from jsnnq.quantizers.base import identity as identity
from jsnnq.quantizers.lqnet import LQNet as LQNet
from jsnnq.quantizers.mint import Mint as Mint
from jsnnq.quantizers.snntorch import SnnTorch as SnnTorch
from jsnnq.quantizers.ste import STE as STE
from jsnnq.quantizers.stompp import StoMPP as StoMPP
from jsnnq.quantizers.uniform import Uniform as Uniform
