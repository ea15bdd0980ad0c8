"""What a study found: results read against their controls, and printed.

`meaning` reads from a config what a row quantizes, `groups` are rows that are one
experiment under several seeds, `results` reads them against their controls, and
`comparisons` has families of rows that differ in one setting and what is claimed of
them. `summary` says what was found, `numbers` prints numbers, `tables` lays results out
as columns, `plots` draws them, and `page` writes all of it: table, CSV, Markdown, one
self-contained page. `quantization` shows one quantized network beside its control.
"""

from jsnnq import renamed

__getattr__ = renamed.attributes_of(
    "jsnnq.report.page", "decisions_table", "layer_table", "markdown", "table", "write"
)
