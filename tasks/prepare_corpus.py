"""Read the corpus, check every utterance, write what can be used and what cannot."""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.config import Config
from pipeline.graph.graph import PARTS
from pipeline.graph.sources import Source
from pipeline.graph.stage import Estimate, Stage, StageContext
from pipeline.storage.artifacts import Artifact

# The scores that count rejects, by what they are.
_COUNTED = {
    "utterance": "rejects",
    "alignment": "rejected_alignments",
    "warning": "warnings",
}


SKIPS = (
    "audio files are compared by size and time (S3: ETag); their content, where they are decoded"
)


def settings(config: Config) -> dict[str, Any]:
    return {"corpus": config.corpus.model_dump(mode="json", exclude={"folds"})}


def sources(config: Config) -> dict[str, Source]:
    from pipeline.corpus.adapter import adapter_of
    from pipeline.corpus.listing import listings_in

    fingerprint = partial(adapter_of(config.corpus).fingerprint, cache=listings_in(config.storage))
    return {"files": Source(config.corpus.whole, fingerprint, SKIPS)}


def estimate(config: Config, _split: str, outputs: Mapping[str, Artifact]) -> Estimate:
    """Seconds and frames; nothing of a corpus that makes its own audio."""
    from pipeline.audio.frame_grid import SSL_GRID
    from pipeline.corpus.durations import durations_by_split
    from pipeline.corpus.listing import listings_in

    durations = durations_by_split(
        config.corpus, outputs["prepare_corpus"], listings_in(config.storage)
    )
    rate_hz = SSL_GRID.sample_rate_hz
    seconds = [value for split in durations.values() for value in split.seconds]
    return Estimate(
        audio_seconds=sum(seconds),
        num_frames=sum(SSL_GRID.num_frames(round(value * rate_hz)) for value in seconds),
        sampled=any(split.source == "sample" for split in durations.values()),
    )


def run(context: StageContext) -> dict[str, float]:
    """Write `corpus.parquet`, its `parts.json`, and `rejects.parquet`.

    Raises:
        CorpusError: too much was rejected, or a split is empty; the tables are written first.
    """
    from pipeline.audio.doubts import DOUBTS
    from pipeline.audio.utterance import rejects_to_table, to_table
    from pipeline.corpus.adapter import adapter_of
    from pipeline.corpus.check import check, require
    from pipeline.corpus.parts import part_digests
    from pipeline.corpus.summary import summarize

    config = context.config.corpus
    entries = adapter_of(config).read(config.whole, context.output, context.progress)
    corpus = check(entries, config, context.progress)
    context.output.write_table("corpus.parquet", to_table(corpus.utterances))
    context.output.write_json(PARTS, part_digests(corpus.utterances))
    context.output.write_table("rejects.parquet", rejects_to_table(corpus.rejects))
    scores = {"left_out": float(corpus.left_out.total())}
    for split in config.splits.names:
        seconds = [row.duration for row in corpus.utterances if row.split == split]
        scores[f"{split}.utterances"] = float(len(seconds))
        scores[f"{split}.hours"] = sum(seconds) / 3600
    for what, score in _COUNTED.items():
        rejects = corpus.rejected(what)
        scores[score] = float(len(rejects))
        for line in summarize(rejects, what):
            context.progress.message(line)
    kinds = Counter(warning.kind for warning in corpus.rejected("warning"))
    scores |= {kind.replace(" ", "_"): float(kinds[kind]) for kind in DOUBTS}
    require(corpus, config)
    return scores


STAGE = Stage(
    name="prepare_corpus",
    version=3,
    settings=settings,
    sources=sources,
    has_parts=True,
    without_audio=True,
    run=run,
    estimate=estimate,
    cpus=1,
    headline=("hours",),
)
