"""Unit vocoders: from the units of a tokenizer back to a waveform."""
