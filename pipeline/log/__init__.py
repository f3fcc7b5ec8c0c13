"""What stages write down while they work, in their outputs, for whoever looks on."""
