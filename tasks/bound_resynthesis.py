"""The bounds of resynthesised speech: recordings, their copy-synthesis, other utterances.

They depend on the corpus and the judge alone, so all variants share them.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.config import Config
from pipeline.corpus.parts import AUDIO, SPEAKER, TEXT, parts_of
from pipeline.graph.judge_inputs import (
    judge_inputs,
    judge_settings,
    judge_sources,
    require_measures,
)
from pipeline.graph.stage import Input, Stage, StageContext

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.metrics.utterance_scores import Share
    from pipeline.resynthesis.bounds import Bound


def _settings(config: Config) -> dict[str, Any]:
    chosen = {"utterances_per_split": config.resynthesis.utterances_per_split}
    return {**chosen, **judge_settings(config)}


def _inputs(config: Config, split: str) -> tuple[Input, ...]:
    rows = Input("prepare_corpus", parts=parts_of(split, AUDIO, TEXT, SPEAKER))
    return (rows, *judge_inputs(config))


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.corpus.read_outputs import read_split
    from pipeline.metrics import utterance_scores
    from pipeline.resynthesis.bounds import Bounds, others_in_place
    from pipeline.resynthesis.evaluation import evenly_spread
    from pipeline.resynthesis.heard import scored
    from pipeline.resynthesis.speech_files import write_speech

    settings, rate_hz = context.config.resynthesis, context.config.corpus.sample_rate_hz
    of_split = read_split(context.inputs["prepare_corpus"], context.split)
    chosen = evenly_spread(of_split, settings.utterances_per_split)
    compute, found = Bounds(settings.measures, rate_hz), []
    for utterance, other in zip(chosen, others_in_place(chosen, of_split), strict=True):
        found.append(compute(utterance, other))
        context.progress.update(len(found), total=len(chosen), unit="utterances")
    for each in found:
        write_speech(context.output, each.utterance.utt_id, each.copy, rate_hz)
    errors = _errors(context, found)
    rows = [
        scored(each.utterance, {**each.shares, **errors.get(each.utterance.utt_id, {})})
        for each in found
    ]
    scores = utterance_scores.write(context.output, rows)
    return {f"{context.split}.{name}": value for name, value in scores.items()}


def _errors(context: StageContext, found: "Sequence[Bound]") -> dict[str, dict[str, "Share"]]:
    """What the judge is wrong on in recordings and their copies, by utt_id; nothing without a judge."""
    from pipeline.audio.decode import read_utterance
    from pipeline.resynthesis.bounds import COPY
    from pipeline.resynthesis.heard import RECORDINGS, table
    from pipeline.resynthesis.judge import open_judge

    settings, utterances = context.config.resynthesis, [each.utterance for each in found]
    if not settings.has_judge:
        return {}
    judge = open_judge(settings, context.inputs.get("train_joint"))
    read = partial(read_utterance, sample_rate_hz=context.config.corpus.sample_rate_hz)
    copies = {each.utterance.utt_id: each.copy for each in found}
    heard = judge.hear(utterances, RECORDINGS, read)
    heard += judge.hear(utterances, COPY, lambda each: copies[each.utt_id])
    context.output.write_table("heard.parquet", table(heard, judge.normalize))
    errors: dict[str, dict[str, Share]] = {each.utt_id: {} for each in utterances}
    for each in heard:
        errors[each.utterance.utt_id] |= judge.errors(each)
    return errors


STAGE = Stage(
    name="bound_resynthesis",
    version=1,
    settings=_settings,
    sources=judge_sources,
    run=_run,
    splits=lambda config: config.corpus.splits.test,
    inputs=_inputs,
    requires=require_measures,
    applies=lambda config: config.speaks,
    cpus=1,
    headline=("recordings_wer", "copy_synthesis_wer", "copy_synthesis_mcd_db"),
)
