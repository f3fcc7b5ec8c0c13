"""A second loss of the joint training: how well units and speaker tell what was heard."""

from pipeline.config.section import NotNegative, Section, Width


class ResynthesisLoss(Section):
    """Train units to be spoken from, beside being read (Onda et al., arXiv 2601.19781).

    A small network makes the recording's log-mel spectrum of each frame from units and speaker, and its
    error joins the joint training's loss. It has rows of its own for the units, learns at the ASR
    model's rate, and is not kept. Epochs are chosen by the ASR model alone, as without it.
    """

    weight: NotNegative = 0.0
    """alpha of ASR loss + alpha * resynthesis loss (mean absolute error of the natural logarithm); 0
    trains for ASR alone."""
    dim: Width = 128
    """Width of the network, and of its embeddings of units and speakers."""
