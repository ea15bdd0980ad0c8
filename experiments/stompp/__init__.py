"""Tables of StoMPP (arXiv 2601.22660 and 2606.27759)."""
