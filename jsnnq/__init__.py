"""Quantized spiking networks, judged by what quantization does to their behaviour."""
