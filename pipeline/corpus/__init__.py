"""From recordings and their texts to one checked table of utterances."""
