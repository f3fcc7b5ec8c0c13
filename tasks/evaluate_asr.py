"""Word and character error rates of the trained ASR model on each test split.

Both searches are scored: greedy CTC, and joint CTC/attention beam search, whose rates are the
comparison's. Beside `prepare_corpus` and `train_joint`, variants with units read their tokens as
`tokenize_corpus` stored them; the continuous variant computes its features from audio.
"""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.audio.utterance import Utterance
from pipeline.config import AsrEvaluation, Config
from pipeline.graph.stage import Stage, StageContext
from pipeline.storage import table_schemas

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.asr.model import AsrModel
    from pipeline.metrics.wer import ErrorCounts

    Reader = Callable[[Sequence[Utterance]], list[Tensor]]

SEARCHES = ("greedy", "beam")
SECONDS_BETWEEN_LINES = 30.0


def _settings(config: Config) -> dict[str, Any]:
    return {
        "asr_evaluation": config.asr_evaluation.model_dump(mode="json"),
        "splits": list(config.corpus.splits.test),
    }


def _inputs(config: Config) -> tuple[str, ...]:
    units = ("tokenize_corpus",) if config.quantizer.has_units else ()
    return ("prepare_corpus", "train_joint", *units)


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.asr.model import AsrModel
    from pipeline.corpus.read_outputs import read_split

    with context.inputs["train_joint"].read_folder("asr") as folder:
        model = AsrModel.from_pretrained(folder)
    read = _reader(context)
    tables: list[pa.Table] = []
    scores: dict[str, float] = {}
    for split in context.config.corpus.splits.test:
        utterances = read_split(context.inputs["prepare_corpus"], split)
        texts = _recognise(context, model, read, utterances)
        tables += [_table(utterances, search, texts[search]) for search in SEARCHES]
        scores.update(_scores(split, utterances, texts))
        context.say(
            f"evaluate_asr: {split}: {len(utterances)} utterances, "
            f"WER {scores[f'{split}.wer']:.2%} (greedy {scores[f'{split}.wer_greedy']:.2%}), "
            f"CER {scores[f'{split}.cer']:.2%}"
        )
    context.output.write_table("hypotheses.parquet", pa.concat_tables(tables))
    return scores


def _reader(context: StageContext) -> "Reader":
    """What gives the ASR model's inputs for some utterances: units (T) or features (T x D)."""
    import torch

    from pipeline.corpus.read_outputs import read_tokens

    config = context.config
    if config.quantizer.has_units:
        units = {
            utt_id: torch.from_numpy(values.astype("int64"))
            for split in config.corpus.splits.test
            for utt_id, values in read_tokens(context.inputs["tokenize_corpus"], split).items()
        }
        return lambda utterances: [units[utterance.utt_id] for utterance in utterances]

    from pipeline.audio.decode import read_audio
    from pipeline.tokenizer.feature_mixer import FeatureMixer

    with context.inputs["train_joint"].read_folder("features") as folder:
        mixer = FeatureMixer.from_pretrained(folder)

    def features(utterances: Sequence[Utterance]) -> "list[Tensor]":
        rate_hz = config.corpus.sample_rate_hz
        waveforms = [read_audio(u.audio, rate_hz, u.offset, u.duration) for u in utterances]
        return [torch.from_numpy(frames_TD) for frames_TD in mixer.encode(waveforms)]

    return features


def _recognise(
    context: StageContext, model: "AsrModel", read: "Reader", utterances: Sequence[Utterance]
) -> dict[str, list[str]]:
    """The hypotheses of each search, in the order of `utterances`."""
    from pipeline.training.batches import sorted_batches

    settings = context.config.asr_evaluation
    texts = {search: [""] * len(utterances) for search in SEARCHES}
    durations = [utterance.duration for utterance in utterances]
    num_done, said_at = 0, time.monotonic()
    for batch in sorted_batches(durations, settings.batch_seconds):
        inputs = read([utterances[index] for index in batch.indices])
        for search, found in _search(model, inputs, settings).items():
            for index, text in zip(batch.indices, found, strict=True):
                texts[search][index] = text
        num_done += len(batch.indices)
        if time.monotonic() - said_at > SECONDS_BETWEEN_LINES:
            said_at = time.monotonic()
            context.say(f"evaluate_asr: {num_done} of {len(utterances)} utterances")
    return texts


def _search(
    model: "AsrModel", inputs: "list[Tensor]", settings: AsrEvaluation
) -> dict[str, list[str]]:
    import torch

    from pipeline.asr.search import beam_search, greedy_ctc

    num_frames_B = torch.tensor([len(frames) for frames in inputs])
    with torch.no_grad():
        embedded_BTE = model.embed(torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True))
    return {
        "greedy": greedy_ctc(model, embedded_BTE, num_frames_B),
        "beam": beam_search(
            model,
            embedded_BTE,
            num_frames_B,
            beam_size=settings.beam_size,
            ctc_weight=settings.ctc_weight,
            max_length_share=settings.max_length_share,
        ),
    }


def _table(utterances: Sequence[Utterance], search: str, texts: Sequence[str]) -> pa.Table:
    from pipeline.metrics.wer import score_each

    references = [utterance.text for utterance in utterances]
    rows = [
        _row(utterance, search, text, counts)
        for utterance, text, counts in zip(
            utterances, texts, score_each(references, texts), strict=True
        )
    ]
    return pa.Table.from_pylist(rows, schema=table_schemas.HYPOTHESES)


def _row(utterance: Utterance, search: str, text: str, counts: "ErrorCounts") -> dict[str, Any]:
    return {
        "utt_id": utterance.utt_id,
        "split": utterance.split,
        "search": search,
        "reference": utterance.text,
        "hypothesis": text,
        "substitutions": counts.substitutions,
        "insertions": counts.insertions,
        "deletions": counts.deletions,
    }


def _scores(
    split: str, utterances: Sequence[Utterance], texts: dict[str, list[str]]
) -> dict[str, float]:
    from pipeline.metrics.wer import cer, score

    references = [utterance.text for utterance in utterances]
    counts = score(references, texts["beam"])
    return {
        f"{split}.wer": counts.wer,
        f"{split}.wer_greedy": score(references, texts["greedy"]).wer,
        f"{split}.cer": cer(references, texts["beam"]),
        f"{split}.substitutions": float(counts.substitutions),
        f"{split}.insertions": float(counts.insertions),
        f"{split}.deletions": float(counts.deletions),
    }


STAGE = Stage(
    name="evaluate_asr",
    version=1,
    settings=_settings,
    run=_run,
    inputs=_inputs,
    cpus=1,
)
