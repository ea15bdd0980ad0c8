"""What things cost: scripts that time, interleaved, and print JSON."""
