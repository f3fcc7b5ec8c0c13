"""How much of speech survives its tokens: resynthesised test speech, recognised and measured."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.audio.utterance import Utterance
from pipeline.config import AsrEvaluation, Config
from pipeline.graph.stage import Stage, StageContext
from pipeline.storage import table_schemas

if TYPE_CHECKING:
    import numpy as np

    from pipeline.asr.model import AsrModel
    from pipeline.metrics.resynthesis import F0Comparison
    from pipeline.storage.artifacts import Artifact
    from pipeline.tokenizer.unit_tokenizer import UnitTokenizer
    from pipeline.vocoder.generator import UnitVocoder


def _settings(config: Config) -> dict[str, Any]:
    return {
        "resynthesis": config.resynthesis.model_dump(mode="json"),
        "asr_evaluation": config.asr_evaluation.model_dump(mode="json"),
        "splits": list(config.corpus.splits.test),
    }


def _applies(config: Config) -> bool:
    return config.vocoder.enabled and config.quantizer.has_units


@dataclass(frozen=True)
class Models:
    """What turns units to speech, speech to units, and units to text."""

    vocoder: "UnitVocoder"
    tokenizer: "UnitTokenizer"
    asr: "AsrModel"
    search: AsrEvaluation

    @classmethod
    def read(cls, inputs: "Mapping[str, Artifact]", search: AsrEvaluation) -> "Models":
        from pipeline.asr.model import AsrModel
        from pipeline.tokenizer.unit_tokenizer import UnitTokenizer
        from pipeline.vocoder.generator import UnitVocoder

        with inputs["train_vocoder"].read_folder("vocoder") as folder:
            vocoder = UnitVocoder.from_pretrained(folder)
        with inputs["train_joint"].read_folder("tokenizer") as folder:
            tokenizer = UnitTokenizer.from_pretrained(folder)
        with inputs["train_joint"].read_folder("asr") as folder:
            asr = AsrModel.from_pretrained(folder)
        return cls(vocoder, tokenizer, asr, search)

    def recognise(self, units: "Sequence[np.ndarray]") -> list[str]:
        """The text of each utterance's units, by joint beam search."""
        import torch

        from pipeline.asr.search import beam_search

        rows = [torch.from_numpy(row.astype("int64")) for row in units]
        with torch.no_grad():
            embedded_BTE = self.asr.embed(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True))
        return beam_search(
            self.asr,
            embedded_BTE,
            torch.tensor([len(row) for row in rows]),
            beam_size=self.search.beam_size,
            ctc_weight=self.search.ctc_weight,
            max_length_share=self.search.max_length_share,
        )


@dataclass(frozen=True)
class Resynthesis:
    """One utterance, spoken again from its units, and what is left of it."""

    utterance: Utterance
    samples: "np.ndarray"
    text_of_recording: str
    text: str
    units_kept: float
    mel_cepstral_distortion_db: float
    f0: "F0Comparison"

    @property
    def row(self) -> dict[str, Any]:
        cents = self.f0.error_cents
        return {
            "utt_id": self.utterance.utt_id,
            "split": self.utterance.split,
            "reference": self.utterance.text,
            "hypothesis": self.text,
            "mel_cepstral_distortion_db": self.mel_cepstral_distortion_db,
            "f0_error_cents": None if math.isnan(cents) else cents,
        }


def _run(context: StageContext) -> dict[str, float]:
    settings = context.config.resynthesis
    models = Models.read(context.inputs, context.config.asr_evaluation)
    rows: list[dict[str, Any]] = []
    scores: dict[str, float] = {}
    for split in context.config.corpus.splits.test:
        results = _resynthesize_split(context, models, split)
        rows += [result.row for result in results]
        for result in results[: settings.audio_examples]:
            _keep_audio(context, result, models.vocoder.sample_rate_hz)
        scores |= {f"{split}.{name}": value for name, value in _scores(results).items()}
        context.say(
            f"evaluate_resynthesis: {context.config.variant}: {split}: "
            f"WER {scores[f'{split}.resynthesis_wer']:.2%} of {len(results)} utterances, from the "
            f"recordings' tokens {scores[f'{split}.resynthesis_wer_of_recordings']:.2%}"
        )
    table = pa.Table.from_pylist(rows, schema=table_schemas.RESYNTHESIS)
    context.output.write_table("scores.parquet", table)
    return scores


def _resynthesize_split(context: StageContext, models: Models, split: str) -> list[Resynthesis]:
    from pipeline.corpus.read_outputs import read_split, read_tokens
    from pipeline.training.batches import sorted_batches

    utterances = _sample(
        read_split(context.inputs["prepare_corpus"], split),
        context.config.resynthesis.utterances_per_split,
    )
    units = read_tokens(context.inputs["tokenize_corpus"], split)
    results: dict[str, Resynthesis] = {}
    durations = [utterance.duration for utterance in utterances]
    for batch in sorted_batches(durations, models.search.batch_seconds):
        chosen = [utterances[index] for index in batch.indices]
        for result in _resynthesize(models, chosen, [units[each.utt_id] for each in chosen]):
            results[result.utterance.utt_id] = result
    return [results[utterance.utt_id] for utterance in utterances]


def _sample(utterances: list[Utterance], count: int) -> list[Utterance]:
    """At most `count` utterances, evenly spread, for a corpus is often sorted by speaker."""
    count = min(count, len(utterances))
    return [utterances[index * len(utterances) // count] for index in range(count)]


def _resynthesize(
    models: Models, utterances: "Sequence[Utterance]", units: "Sequence[np.ndarray]"
) -> list[Resynthesis]:
    from pipeline.audio.decode import read_audio
    from pipeline.metrics.resynthesis import compare_f0, mel_cepstral_distortion_db

    rate_hz = models.vocoder.sample_rate_hz
    made = [
        models.vocoder.resynthesize(row, utterance.speaker)
        for utterance, row in zip(utterances, units, strict=True)
    ]
    units_of_made = models.tokenizer.encode(made)
    texts_of_recordings, texts = models.recognise(units), models.recognise(units_of_made)
    results: list[Resynthesis] = []
    for index, (utterance, samples) in enumerate(zip(utterances, made, strict=True)):
        recording = read_audio(utterance.audio, rate_hz, utterance.offset, utterance.duration)
        results.append(
            Resynthesis(
                utterance,
                samples,
                texts_of_recordings[index],
                texts[index],
                float((units[index] == units_of_made[index]).mean()),
                mel_cepstral_distortion_db(recording, samples, rate_hz),
                compare_f0(recording, samples, rate_hz),
            )
        )
    return results


def _scores(results: Sequence[Resynthesis]) -> dict[str, float]:
    """Error rates over all utterances, beside those from the recordings' tokens; means of the rest.

    `f0_error_cents` is left out where no utterance has one.
    """
    from pipeline.metrics.wer import cer, score

    references = [result.utterance.text for result in results]
    texts = [result.text for result in results]
    texts_of_recordings = [result.text_of_recording for result in results]
    cents = [result.f0.error_cents for result in results]
    scores = {
        "resynthesis_wer": score(references, texts).wer,
        "resynthesis_cer": cer(references, texts),
        "resynthesis_wer_of_recordings": score(references, texts_of_recordings).wer,
        "resynthesis_cer_of_recordings": cer(references, texts_of_recordings),
        "units_kept": _mean([result.units_kept for result in results]),
        "mcd_db": _mean([result.mel_cepstral_distortion_db for result in results]),
        "voicing_disagreement": _mean([result.f0.voicing_disagreement for result in results]),
    }
    known = [value for value in cents if not math.isnan(value)]
    return {**scores, "f0_error_cents": _mean(known)} if known else scores


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _keep_audio(context: StageContext, result: Resynthesis, sample_rate_hz: int) -> None:
    from pipeline.audio.decode import write_audio

    name = f"audio/{result.utterance.utt_id}.wav"
    with context.output.write(name) as file:
        write_audio(file, result.samples, sample_rate_hz, format="WAV")
    context.tracker.log_audio(result.samples, sample_rate_hz, name)


STAGE = Stage(
    name="evaluate_resynthesis",
    version=1,
    settings=_settings,
    run=_run,
    inputs=lambda _config: ("prepare_corpus", "train_joint", "tokenize_corpus", "train_vocoder"),
    applies=_applies,
    cpus=1,
)
