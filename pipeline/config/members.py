"""The members of a variant: one training for each of its seeds."""

from pipeline.config.variant import Config


def members(config: Config) -> tuple[Config, ...]:
    """The config of each member, which has one seed; the config itself if it has one.

    The vocoder is for the first seed alone: others would tell little more for hours of training.
    """
    first, *others = config.training.seeds
    if not others:
        return (config,)
    silent = config.model_copy(
        update={"vocoder": config.vocoder.model_copy(update={"enabled": False})}
    )
    return (_with_seed(config, first), *(_with_seed(silent, seed) for seed in others))


def traits(member: Config, config: Config) -> tuple[str, ...]:
    """What tells a member of `config` from its others: `("seed 1",)`; nothing if it is the only one."""
    return (f"seed {member.training.seed}",) if len(config.training.seeds) > 1 else ()


def _with_seed(config: Config, seed: int) -> Config:
    training = config.training.model_copy(update={"seeds": (seed,)})
    return config.model_copy(update={"training": training})
