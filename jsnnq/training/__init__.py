"""From a network and images to a trained state.

`step` is one step of training, pure over an immutable state, `loop` goes on from step
to step, `together` makes several runs of one program one, `resume` keeps training in a
folder and continues it, `divergence` finds the layer in which numbers stopped being
finite, `probe` looks inside a binary network while it trains, and `monitor` shows and
records how it goes.
"""
