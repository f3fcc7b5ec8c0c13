"""Stages, the graph of all variants' stages, and whether its outputs fit on the disk."""
