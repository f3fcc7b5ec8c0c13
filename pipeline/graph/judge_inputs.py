"""What stages depend on in which a judge hears speech: another variant's recogniser, or a Whisper."""

from typing import Any

from pipeline.config import Config
from pipeline.config.section import settings_of
from pipeline.features.fingerprint import whisper_fingerprint
from pipeline.graph.sources import Source
from pipeline.graph.stage import Input

# Of the search: the best text of each utterance is compared, and always from units or features.
_NOT_FROM_SPEECH = {"batch_seconds", "nbest", "assignment", "soft_tau", "language_model"}


def hearing_settings(config: Config) -> dict[str, Any]:
    """What a variant's recogniser makes of speech depends on, beside its models."""
    return {"asr_evaluation": settings_of(config.asr_evaluation, _NOT_FROM_SPEECH)}


def judge_settings(config: Config) -> dict[str, Any]:
    """What the judges' scores depend on, beside the recogniser's model."""
    settings = config.resynthesis
    found: dict[str, Any] = {"measures": sorted(settings.measures)}
    if settings.judging_folder is not None:
        found["language"] = settings.language
    elif settings.judging_config is not None:
        found |= hearing_settings(settings.judging_config)
    return found


def judge_sources(config: Config) -> dict[str, Source]:
    """The Whisper model that judges, if one does."""
    folder = config.resynthesis.judging_folder
    return {} if folder is None else {"judge": Source(config.resynthesis, whisper_fingerprint)}


def judge_inputs(config: Config) -> tuple[Input, ...]:
    """The training of the variant that judges, if one does; it is named `train_joint`."""
    judging = config.resynthesis.judging_config
    return () if judging is None else (Input("train_joint", config=judging),)


def require_measures(config: Config) -> None:
    """Refuse measures whose packages are not installed.

    Raises:
        ConfigError: names them with the command that installs them.
    """
    from pipeline.resynthesis.measures import require_packages  # imports torch, so not earlier

    require_packages(config.resynthesis.measures)
