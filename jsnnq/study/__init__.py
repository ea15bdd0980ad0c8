"""Experiments: from a file of rows to a folder of results.

`experiment` reads a file and says which rows can be one study, `jobs` what there is to
do in which order, `folder` what is done of it and where that lies, `runner` chooses and
runs the next row within its `budget`, `groups` says which rows are trained together,
`ahead` compiles what comes next, `merge` brings several studies together. `build`
makes objects of a config, `optimizer` the optax transformation of a recipe, `run`
trains and measures one network, and `saved` keeps a trained one. `recipe` reads what is
written for a command in TOML, and `quantization` quantizes one network beside its
control. `default` and `smoke` are experiments of their own.
"""

from jsnnq import renamed

__getattr__ = renamed.attributes_of("jsnnq.study.runner", "KEEP", "Choice", "Study")
