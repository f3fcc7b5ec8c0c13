"""Variants as far as `compare` reads them: a corpus, and hypotheses with as many errors as one likes."""

import pyarrow as pa

from pipeline.config import Config
from pipeline.corpus.adapters.synthetic import SyntheticCorpus
from pipeline.graph.graph import Member, Node
from pipeline.graph.stage import Stage
from pipeline.storage import table_schemas

SPEAKERS = {f"u{i}": "abc"[i % 3] for i in range(9)}


def config(folder, variant, seed=0):
    return Config(
        variant=variant,
        storage=str(folder),
        corpus=SyntheticCorpus(),
        ssl={"model": "some/model", "revision": "0" * 40},
        training={"seeds": [seed]},
    )


def evaluated(folder, variant, errors, speakers=SPEAKERS, *, name="", seed=0):
    """A member of a variant with its nodes, complete; each reference has four words."""
    settings = config(folder, variant, seed)
    corpus, scored = (
        Node(
            Stage(stage, 1, dict, dict),
            f"{stage} {variant} {name}".strip(),
            settings,
            {variant: ()},
            {},
            {},
            split=split,
        )
        for stage, split in (("prepare_corpus", ""), ("evaluate_asr", "test"))
    )
    known = [{"utt_id": u, "split": "test", "speaker": s} for u, s in speakers.items()]
    corpus.artifact.write_table("corpus.parquet", pa.Table.from_pylist(known))
    corpus.artifact.finish({})
    counts = {"insertions": 0, "deletions": 0, "search": "beam", "split": "test"}
    rows = [
        {"utt_id": u, "reference": "a b c d", "hypothesis": "", "substitutions": n, **counts}
        for u, n in zip(speakers, errors, strict=True)
    ]
    table = pa.Table.from_pylist(rows, schema=table_schemas.HYPOTHESES)
    scored.artifact.write_table("hypotheses.parquet", table)
    wer = sum(errors) / (4 * len(errors))
    scored.artifact.write_json("metrics.json", {"test.wer": wer, "test.cer": wer / 2})
    scored.artifact.finish({})
    return Member(name, settings, {node.name: node for node in (corpus, scored)})


def unfinished(member):
    """The member, not evaluated yet."""
    member.nodes["evaluate_asr/test"].artifact.delete("manifest.json")
    return member
