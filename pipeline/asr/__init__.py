"""Speech recognition from discrete units or continuous features."""
