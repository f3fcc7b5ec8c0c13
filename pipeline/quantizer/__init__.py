"""The trainable quantizer: layer mix and differentiable k-means."""
