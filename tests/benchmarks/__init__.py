"""What the quantizer and the training step cost, next to other ways to do the same work."""
