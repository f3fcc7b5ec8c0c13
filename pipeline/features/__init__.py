"""From audio to hidden states of a self-supervised model."""
