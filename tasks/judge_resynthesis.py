"""What judges that are the same for all variants say of resynthesised speech.

`resynthesis.judge` names a recogniser: the ASR model of another variant, or a Whisper. A recogniser
that each variant trained for itself compares recognisers as much as speech. `resynthesis.measures`
names models that tell quality and speakers.
"""

from functools import partial
from typing import TYPE_CHECKING

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
    import numpy as np

    from pipeline.audio.utterance import Utterance
    from pipeline.metrics.utterance_scores import Share


def _inputs(config: Config, split: str) -> tuple[Input, ...]:
    return (
        Input("prepare_corpus", parts=parts_of(split, AUDIO, TEXT, SPEAKER)),
        Input("evaluate_resynthesis", split),
        *judge_inputs(config),
    )


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.audio.decode import read_audio, read_utterance
    from pipeline.corpus.read_outputs import read_split
    from pipeline.metrics import utterance_scores
    from pipeline.resynthesis.heard import RESYNTHESIS, scored, table
    from pipeline.resynthesis.judge import open_judge
    from pipeline.resynthesis.measures import open_measures
    from pipeline.resynthesis.speech_files import speech_file

    split, spoken = context.split, context.inputs[f"evaluate_resynthesis/{context.split}"]
    settings, rate_hz = context.config.resynthesis, context.config.corpus.sample_rate_hz
    known = {each.utt_id: each for each in read_split(context.inputs["prepare_corpus"], split)}
    utterances = [known[each.utt_id] for each in utterance_scores.read(spoken)]

    def read(utterance: "Utterance") -> "np.ndarray":
        return read_audio(f"{spoken.uri}/{speech_file(utterance.utt_id)}", rate_hz)

    report = partial(context.progress.update, total=len(utterances), unit="utterances")
    shares: dict[str, dict[str, Share]] = {each.utt_id: {} for each in utterances}
    texts = table(())
    if settings.has_judge:
        judge = open_judge(settings, context.inputs.get("train_joint"))
        heard = judge.hear(utterances, RESYNTHESIS, read, report)
        shares |= {each.utterance.utt_id: judge.errors(each) for each in heard}
        texts = table(heard, judge.normalize)
    measure = open_measures(settings.measures)
    for utterance in utterances if settings.measures else ():
        recording = read_utterance(utterance, rate_hz)
        shares[utterance.utt_id] |= measure(recording, read(utterance))
    context.output.write_table("heard.parquet", texts)
    rows = [scored(each, shares[each.utt_id]) for each in utterances]
    scores = utterance_scores.write(context.output, rows)
    return {f"{split}.{name}": value for name, value in scores.items()}


STAGE = Stage(
    name="judge_resynthesis",
    version=1,
    settings=judge_settings,
    sources=judge_sources,
    run=_run,
    splits=lambda config: config.corpus.splits.test,
    inputs=_inputs,
    requires=require_measures,
    applies=lambda config: config.speaks and config.resynthesis.is_judged,
    cpus=1,
    headline=("resynthesis_wer", "dnsmos", "speaker_similarity"),
)
