"""Tables of arXiv 2604.14487: quantization of spiking networks beyond accuracy."""
