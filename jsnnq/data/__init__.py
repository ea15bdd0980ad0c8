"""Images and labels, from an archive to a batch on the device.

`arrays` makes a data set of arrays, `directories` of a folder of arrays or images,
`sets` loads data sets by name, `streams` has their splits, in memory or decoded as they
are read, `batches` makes the batch that belongs to (seed, step), and `prepare` turns
original archives into directories that TFDS reads.
"""

from jsnnq import renamed

__getattr__ = renamed.attributes_of(
    "jsnnq.data.sets", "DataSet", "Split", "hold_out", "load", "synthetic"
)
