"""`tune`: choose settings on the validation split, each variant with the same number of trials.

All trials of all variants are one graph, which runs as any other: what trials have in common is
computed once, a stopped `tune` resumes, and `run` finds what a trial has trained. Ray Tune draws the
settings. The graph ends with the training, so that nothing of a test split is read but by
prepare_corpus, which checks all splits.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.commands import plan
from pipeline.commands.attempts import Attempt, Attempts, Variant, for_tuning
from pipeline.commands.run import check_one_cluster, on_ray, show_tracker
from pipeline.commands.run_display import RunDisplay
from pipeline.commands.track import close
from pipeline.commands.tuned_config import TunedConfig
from pipeline.config import Config, digest
from pipeline.config.files import Settings, load_all
from pipeline.config.space import Space, read_space
from pipeline.config.yaml_file import write_yaml
from pipeline.corpus.fold import require_speakers
from pipeline.metrics.trials import LOSS, WER, Trial, Trials
from pipeline.redaction import redact
from pipeline.storage.artifacts import Artifact
from pipeline.storage.folders import Folder
from pipeline.storage.provenance import provenance
from pipeline.storage.writable import require_writable
from pipeline.tracking.description import NOTE_TAG, variant_tags
from pipeline.tracking.publication import End
from pipeline.tracking.session import TrackingSession, check_one_tracker, tracking_of

RECORDS = "tuning"


@dataclass(frozen=True)
class Tuning:
    """What to tune: config files, and a space from which all of them draw the same settings.

    The first of the `trials` is the config as it stands. `folder` takes the tuned configs.
    """

    files: Sequence[Path]
    overrides: Sequence[str]
    space: Path
    trials: int
    seed: int = 0
    folder: Path | None = None


def tune(tuning: Tuning, console: Console) -> bool:
    """Try settings, print how they did, keep a record; return whether each variant has a best one.

    Raises:
        ConfigError, CorpusError, ArtifactError, TrackingError: a mistake found before any work starts.
    """
    space = read_space(tuning.space)
    configs = load_all(tuning.files, tuning.overrides)
    space.check(configs)
    check_one_cluster(configs)
    check_one_tracker(configs)
    for config in configs:
        require_speakers(config.corpus)
    for file in tuning.files:
        if tuning.folder is not None:
            TunedConfig(file, tuning.folder).check()
    require_writable(configs[0].storage)
    session = TrackingSession(for_tuning(tracking_of(configs)), configs[0].storage)
    session.check()
    variants = [
        Variant(file, tuning.overrides, config)
        for file, config in zip(tuning.files, configs, strict=True)
    ]
    with on_ray(configs[0].cluster, console) as display:
        attempts = Attempts(_draw(tuning, space, variants, display))
        _execute(attempts, session, configs[0].storage, console, display)
    found = [_report(tuning, space, variant, attempts, console) for variant in variants]
    show_tracker(configs[0], console)
    return all(found)


def _draw(
    tuning: Tuning, space: Space, variants: Sequence[Variant], display: RunDisplay
) -> list[Attempt]:
    """The trials of all variants, with the same draws; a line for each key that a variant lacks."""
    from pipeline.runtime.draws import draw  # imports Ray, so not earlier

    drawn: list[Settings] = [{}, *draw(space, tuning.trials - 1, tuning.seed)]
    if len(drawn) < tuning.trials:
        display.line(f"{tuning.space} has no more than {len(drawn) - 1} settings")
    for variant in variants:
        if missing := space.keys_without(variant.config):
            display.line(f"{variant.name} has no {', '.join(missing)}: its trials leave that out")
    return [
        Attempt.of(variant, number, settings)
        for variant in variants
        for number, settings in enumerate(drawn, start=1)
    ]


def _execute(
    attempts: Attempts,
    session: TrackingSession,
    storage: str,
    console: Console,
    display: RunDisplay,
) -> None:
    from pipeline.runtime.scheduler import execute  # imports Ray, so not earlier

    graph = attempts.graph()
    plan.show(graph, storage, console)
    plan.check_space(graph, storage)
    started = dict(_start(session, attempts))
    session.follow_complete(graph)
    try:
        outcome = execute(attempts.graph, display, session.follow)
        for ended in (*outcome.failed, *outcome.skipped):
            attempts.fail(ended.node.variants, ended.error)
        trials = attempts.trials()
        for name, config in started.items():
            _end(session, config, trials[name])
    except BaseException:
        for config in started.values():
            session.end(config, End("KILLED"))
        raise
    finally:
        close(session, console)


def _start(session: TrackingSession, attempts: Attempts) -> Iterator[tuple[str, Config]]:
    """Publish what each trial is, and with which settings."""
    made_by = provenance()
    for attempt, config in attempts.going_on():
        tags = variant_tags(config, made_by)
        drawn = [f"- {key}: {json.dumps(node.plain())}" for key, node in attempt.settings.items()]
        note = "\n".join(
            [tags[NOTE_TAG], "", "Drawn for this trial:", "", *(drawn or ["- nothing"])]
        )
        session.start(config, {**tags, NOTE_TAG: note})
        yield attempt.name, config


def _end(session: TrackingSession, config: Config, trial: Trial) -> None:
    if trial.scores is None:
        session.end(config, End("FAILED", tags={NOTE_TAG: f"It failed: {trial.error}"}))
        return
    scores = {
        "valid/WER in percent": 100 * trial.scores[WER],
        "valid/ASR loss": trial.scores[LOSS],
    }
    session.end(config, End("FINISHED", scores))


def _report(
    tuning: Tuning, space: Space, variant: Variant, attempts: Attempts, console: Console
) -> bool:
    """Print, record and write how one variant's trials did; return whether there is a best one."""
    trials = attempts.trials_of(variant)
    console.print(trials.table())
    record = _keep(trials, variant, {"space": space.plain(), "seed": tuning.seed})
    remarks = [trials.summary(), f"all trials: {redact(record)}"]
    console.print("\n".join(remarks), markup=False, highlight=False, soft_wrap=True)
    if trials.best is None:
        return False
    settings = attempts.settings_of(variant, trials.best.number)
    if settings:
        console.out(write_yaml([settings]), highlight=False, end="")
    if tuning.folder is not None:
        tuned = TunedConfig(variant.file, tuning.folder)
        tuned.write(variant.name, settings, remarks)
        console.print(f"written to {tuned.path}", markup=False, highlight=False, soft_wrap=True)
    console.print()
    return True


def _keep(trials: Trials, variant: Variant, draws: dict[str, Any]) -> str:
    """Write the record of one variant's trials, and its table as Markdown; returns the address.

    More trials of the same config, space and seed replace it: they include the earlier ones.
    """
    config = variant.config
    settings = config.document({"storage", "tracking", "cluster"}, whole=True)
    name = f"{variant.name}-{digest({**draws, 'config': settings})[:8]}"
    records = Artifact(f"{Folder.at(config.storage).uri}/{RECORDS}")
    given = {"config": str(variant.file), "set": [redact(each) for each in variant.overrides]}
    records.write_json(f"{name}.json", {**given, **draws, **trials.record()})
    with records.write(f"{name}.md") as file:
        file.write(f"{trials.summary()}\n\n{trials.as_markdown()}".encode())
    return f"{records.uri}/{name}.json"
