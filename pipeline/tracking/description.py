"""What MLflow shows of a variant's run at its top: what was run, and by which code and command."""

from pipeline.config import Config
from pipeline.storage.provenance import Provenance, shown_commit, tags

NOTE_TAG = "mlflow.note.content"


def variant_tags(config: Config, provenance: Provenance) -> dict[str, str]:
    """The description, and the provenance of what was made, as MLflow tags."""
    return {NOTE_TAG: describe(config, shown_commit(provenance)), **tags(provenance)}


def describe(config: Config, commit: str = "") -> str:
    """One variant in a few lines of Markdown."""
    by = "".join(f", fine-tuned by {other.variant}" for other in config.finetuners[:1])
    heard = f", SSL model `{config.ssl.model}`{by}" if config.corpus.has_audio else ""
    lines = [
        f"**{config.variant}** on the {config.corpus.kind} corpus{heard}.",
        "",
        *(_joint_training(config) if config.corpus.has_audio else []),
        *([_token_asr(config)] if config.has_token_asr else []),
        f"- storage: `{config.storage}`",
        *([f"- commit: `{commit}`"] if commit else []),
        "",
        "The child runs hold each stage's parameters, curves, figures and audio.",
    ]
    return "\n".join(lines)


def _joint_training(config: Config) -> list[str]:
    quantizer = config.quantizer
    units = f", {config.codebook.num_units} units" if quantizer.has_units else ""
    phases = ", then ".join(
        f"{phase.epochs} epochs with the SSL model {phase.ssl}" for phase in config.training.phases
    )
    return [
        f"- quantizer: {quantizer.kind}{units}, layer weights {quantizer.layer_weights}",
        f"- training: {phases}; {_members(config)}",
    ]


def _token_asr(config: Config) -> str:
    settings = config.token_asr
    subwords, epochs = settings.subwords, sum(phase.epochs for phase in settings.phases)
    joined = f", {subwords.vocabulary_size} subwords ({subwords.kind})"
    read = f"{'de-duplicated ' * settings.deduplicate}units{joined * (subwords.kind != 'none')}"
    return f"- ASR from stored {read}: {epochs} epochs; {_members(config)}"


def _members(config: Config) -> str:
    """`seeds 0, 1; left out in turn: each speaker`."""
    seeds, folds = config.training.seeds, config.corpus.folds
    who = "each speaker" if folds == "speaker" else " and ".join(folds)
    left_out = f"; left out in turn: {who}" if folds else ""
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}{left_out}"
