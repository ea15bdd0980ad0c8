"""What a study found: results read against their controls, and printed.

`groups` are rows that are one experiment under several seeds, `results` reads them
against their controls, `numbers` prints numbers, `comparisons` and `summary` say what
was found, `tables` lays results out as columns, `plots` draws them, and `page` writes
all of it: table, CSV, Markdown, one self-contained page.
"""
