"""No quantizer: the ASR model reads continuous features, the mixed hidden states themselves."""

from pipeline.config.quantizer import QuantizerKind

QUANTIZER = QuantizerKind(build=None)
