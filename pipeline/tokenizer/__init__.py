"""From audio to units with a trained model."""
