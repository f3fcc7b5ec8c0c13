"""Utterances, decoding of their audio, and the grid of frames over its samples."""
