"""The members of a variant: one training for each speaker who is left out, and for each seed."""

from pipeline.config.corpus import load_adapter, speaker_name
from pipeline.config.section import ConfigError
from pipeline.config.variant import Config


def members(config: Config) -> tuple[Config, ...]:
    """The config of each member, which has one seed and is one fold; itself if it is both already.

    The vocoder is for the first seed alone: others would tell little more for hours of training.

    Raises:
        ConfigError: the corpus has too few speakers for folds.
        CorpusError: whoever speaks in it cannot be found out.
    """
    found = tuple(member for fold in _folds(config) for member in _seeds(fold))
    if config.ssl.finetuned_by is not None:
        finetuners = members(config.ssl.finetuned_by)
        found = tuple(_finetuned_by(*pair) for pair in zip(found, finetuners, strict=True))
    if config.resynthesis.judging_config is not None:
        judges = members(config.resynthesis.judging_config)
        found = tuple(_judged_by(*pair) for pair in zip(found, judges, strict=True))
    return found


def traits(member: Config, config: Config) -> tuple[str, ...]:
    """What tells a member of `config` from its others: `("fold fred", "seed 1")`; nothing if alone."""
    folds, seeds = config.corpus.folds, config.training.seeds
    fold = (f"fold {member.corpus.fold.speaker}",) if folds == "speaker" or len(folds) > 1 else ()
    return (*fold, f"seed {member.training.seed}") if len(seeds) > 1 else fold


def _folds(config: Config) -> tuple[Config, ...]:
    folds = config.corpus.folds
    if not folds:
        return (config,)
    speakers = _speakers(config) if folds == "speaker" else folds
    corpora = (config.corpus.leaving_out(speaker) for speaker in speakers)
    return tuple(config.model_copy(update={"corpus": corpus}) for corpus in corpora)


def _speakers(config: Config) -> list[str]:
    """Who speaks in the splits of the corpus, sorted; found without opening audio."""
    found = load_adapter(config.corpus.kind).speakers(config.corpus)
    speakers = sorted({speaker_name(speaker) for speaker in found} - {""})
    if len(speakers) < 2:
        raise ConfigError(
            f"corpus.folds leaves one speaker out, but the splits {list(config.corpus.splits.names)} "
            f"have the speakers {speakers}: leave folds out, or name splits with two speakers"
        )
    return speakers


def _seeds(config: Config) -> tuple[Config, ...]:
    first, *others = config.training.seeds
    if not others:
        return (config,)
    vocoder = config.vocoder.model_copy(update={"enabled": False})
    silent = config.model_copy(update={"vocoder": vocoder})
    return (_with_seed(config, first), *(_with_seed(silent, seed) for seed in others))


def _with_seed(config: Config, seed: int) -> Config:
    training = config.training.model_copy(update={"seeds": (seed,)})
    return config.model_copy(update={"training": training})


def _finetuned_by(config: Config, other: Config) -> Config:
    """A member whose SSL model another variant's member fine-tunes: that of the same fold and seed."""
    ssl = config.ssl.model_copy(update={"finetuned_by": other})
    return config.model_copy(update={"ssl": ssl})


def _judged_by(member: Config, judge: Config) -> Config:
    """A member whose speech another variant's member judges: that of the same fold and seed."""
    resynthesis = member.resynthesis.model_copy(update={"judge": judge})
    return member.model_copy(update={"resynthesis": resynthesis})
