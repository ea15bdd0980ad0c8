"""The plots of a study.

`style` is how figures look, `scatter` accuracy against EMD, `heatmap` the EMD of each
layer, `histograms` firing, `curves` training, `cost` operations and storage, `methods`
the accuracy of binary networks by method, `inside` what happens in their layers, and
`gallery` which of these a study has and how to read them.
"""
