"""What can be set, typed and checked, a section a file; read from YAML by `files`.

Imports neither torch nor Ray, so that a config can be checked on any machine.
"""

from pipeline.config.asr import Asr, AsrEvaluation, TextPieces, TimeMasking
from pipeline.config.cluster import Cluster, Tracking
from pipeline.config.digests import digest
from pipeline.config.evaluation import Purity
from pipeline.config.features import Features
from pipeline.config.fused_lm import FusedLanguageModel
from pipeline.config.lm import CausalTransformer, LmSubwords, LmTraining, TextLm, UnitLm
from pipeline.config.quantizer import Codebook, Iteration, Quantizer, Sigma
from pipeline.config.resynthesis_loss import ResynthesisLoss
from pipeline.config.section import ConfigError
from pipeline.config.token_asr import Subwords, TokenAsr
from pipeline.config.training import LearningRates, Phase, Pretraining, Training
from pipeline.config.variant import Config, Resynthesis, Ssl
from pipeline.config.vocoder import Adversaries, Hifigan, Istft, Vocoder

__all__ = [
    "Adversaries",
    "Asr",
    "AsrEvaluation",
    "CausalTransformer",
    "Cluster",
    "Codebook",
    "Config",
    "ConfigError",
    "Features",
    "FusedLanguageModel",
    "Hifigan",
    "Istft",
    "Iteration",
    "LearningRates",
    "LmSubwords",
    "LmTraining",
    "Phase",
    "Pretraining",
    "Purity",
    "Quantizer",
    "Resynthesis",
    "ResynthesisLoss",
    "Sigma",
    "Ssl",
    "Subwords",
    "TextLm",
    "TextPieces",
    "TimeMasking",
    "TokenAsr",
    "Tracking",
    "Training",
    "UnitLm",
    "Vocoder",
    "digest",
]
