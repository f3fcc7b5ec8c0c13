"""What a stage reads that learns or evaluates ASR from stored tokens."""

from pipeline.config import Config
from pipeline.corpus.parts import AUDIO, TEXT, parts_of
from pipeline.graph.stage import Input


def token_inputs(config: Config, *splits: str) -> tuple[Input, ...]:
    """The texts of some splits and their tokens, which a corpus of tokens has in place of audio."""
    kinds = (TEXT,) if config.corpus.has_audio else (TEXT, AUDIO)
    recorded = dict.fromkeys(config.recorded(split)[0] for split in splits)
    rows = tuple(part for split in recorded for part in parts_of(split, *kinds))
    tokens = (Input("tokenize_corpus", split) for split in splits if config.corpus.has_audio)
    return (Input("prepare_corpus", parts=rows), *tokens)
