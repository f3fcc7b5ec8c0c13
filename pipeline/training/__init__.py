"""Joint training of quantizer, ASR and SSL model; plain torch, no Ray."""
