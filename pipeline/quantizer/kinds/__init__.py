"""The quantizers that `quantizer.kind` names, one a file; importing them imports no torch."""
