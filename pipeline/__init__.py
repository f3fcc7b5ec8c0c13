"""Differentiable k-means for discrete speech tokens: from a folder of audio to a trained tokenizer."""
