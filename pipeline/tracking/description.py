"""What MLflow shows of a variant's run at its top: what was run, and from which commit."""

import subprocess
from pathlib import Path

from pipeline.config import Config

NOTE_TAG = "mlflow.note.content"
COMMIT_TAG = "mlflow.source.git.commit"


def variant_tags(config: Config) -> dict[str, str]:
    """The description and, if this code lies in a git checkout, its commit, as MLflow tags."""
    commit = git_commit(Path(__file__).parent)
    return {NOTE_TAG: describe(config, commit), **({COMMIT_TAG: commit} if commit else {})}


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


def git_commit(folder: Path) -> str:
    """The commit of the checkout that tracks `folder`, marked if files differ; empty without one."""
    # An installed copy may lie, untracked, within a checkout of something else.
    if not _git(folder, "ls-files", "."):
        return ""
    commit = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{commit} with local changes" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        finished = subprocess.run(  # noqa: S603 - fixed arguments
            command, capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return finished.stdout.strip() if finished.returncode == 0 else ""
