"""A variant with everything that the page shows, as the stages would have stored it."""

import numpy as np
import pyarrow as pa
from evaluated_variants import config

from pipeline.audio.decode import write_audio
from pipeline.audio.identity import content_sha256
from pipeline.audio.utterance import Reject, Segment, Utterance, rejects_to_table, to_table
from pipeline.graph.graph import Member, Node
from pipeline.graph.stage import Stage
from pipeline.log.stage_log import StageLog
from pipeline.storage import table_schemas
from pipeline.storage.folders import FileInfo

RATE_HZ = 16000
SCRIPT = "<script>alert(1)</script>"
UTTERANCES = ("u1", "u2", "u3", "u4")
PHONES = (Segment(0.0, 0.3, "a"), Segment(0.3, 0.6, "<b>"), Segment(0.6, 1.0, "$\\x$"))


def tone(hertz):
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(RATE_HZ) / RATE_HZ)


def reported(folder, variant, *, audio_of=("u1", "u3")):
    """A member of one seed, trained and evaluated on four utterances of a second in the split `test`."""
    settings = config(folder, variant)
    nodes = {}

    def node(stage, split="", inputs=()):
        made = Node(
            Stage(stage, 1, dict, dict),
            stage if stage == "prepare_corpus" else variant,
            settings,
            {variant: ()},
            {},
            {name: nodes[name].digest for name in inputs},
            split=split,
            rank=(len(nodes), 0),
        )
        nodes[made.name] = made
        return made.artifact

    _write_corpus(node("prepare_corpus"), folder)
    _write_training(node("train_joint"))
    _write_tokens(node("tokenize_corpus", "test", ("train_joint",)))
    _write_purity(node("phone_purity", "test"))
    scored = node("evaluate_asr", "test")
    scored.write_table(
        "hypotheses.parquet", pa.Table.from_pylist(_texts(), table_schemas.HYPOTHESES)
    )
    scored.write_json("metrics.json", {"test.wer": 0.5, "test.cer": 0.25})
    _write_resynthesis(node("evaluate_resynthesis", "test"), audio_of)
    for each in nodes.values():
        each.artifact.finish({"seconds": 1.0, "versions": {"python": "3"}})
    return Member("", settings, nodes)


def _write_corpus(output, folder):
    rows = []
    for utt_id in UTTERANCES:
        path = folder / f"{utt_id}.flac"
        write_audio(path, tone(300), RATE_HZ)
        with path.open("rb") as file:
            sha256 = content_sha256(file)
        place = (utt_id, "test", str(path), 0.0, 1.0, f"speaker {SCRIPT}", f"one {SCRIPT}")
        rows.append(Utterance(*place, PHONES, str(FileInfo.of(path.stat())), sha256))
    output.write_table("corpus.parquet", to_table(rows))
    reject = Reject("u9", "u9.wav", f"no such file: {SCRIPT}")
    output.write_table("rejects.parquet", rejects_to_table([reject]))


def _write_training(output):
    output.write_json(
        "tokenizer/ssl/config.json",
        {"model_type": "wavlm", "conv_kernel": [400], "conv_stride": [320]},
    )
    log = StageLog(output)
    log.metrics({"train.asr_loss": 3.0}, 10)
    log.metrics({"train.asr_loss": 2.0}, 20)
    log.metrics({"valid.wer": 0.8, "layer_weight.00": 0.25, "layer_weight.02": 0.75}, 20)
    log.flush()


def _write_tokens(output):
    units = [3] * 15 + [1] * 15 + [2] * 20
    rows = [
        {"utt_id": utt_id, "split": "test", "units": units, "num_frames": 50}
        for utt_id in UTTERANCES
    ]
    table = pa.Table.from_pylist(rows, schema=table_schemas.TOKENS)
    output.write_table("tokens/test-00000.parquet", table)


def _write_purity(output):
    counts = {"label": ["a", SCRIPT], "frames_of_unit": [[3, 0, 1], [0, 0, 4]]}
    output.write_table("counts-test.parquet", pa.table(counts))


def _texts():
    texts = {"reference": f"one {SCRIPT}", "hypothesis": f"two {SCRIPT} three"}
    errors = {"substitutions": 1, "insertions": 1, "deletions": 0}
    return [
        {"utt_id": utt_id, "split": "test", "search": search, **texts, **errors}
        for utt_id in UTTERANCES
        for search in ("greedy", "beam")
    ]


def _write_resynthesis(output, audio_of):
    for utt_id in audio_of:
        with output.write(f"audio/{utt_id}.wav") as file:
            write_audio(file, tone(500), RATE_HZ, format="WAV")
    texts = {"recordings": f"one {SCRIPT}", "resynthesis": "one"}
    rows = [
        {"utt_id": utt_id, "speech": speech, "reference": f"one {SCRIPT}", "hypothesis": text}
        for utt_id in UTTERANCES
        for speech, text in texts.items()
    ]
    output.write_table("heard.parquet", pa.Table.from_pylist(rows))
    output.write_json("metrics.json", {"test.resynthesis_wer_own": 0.5})
