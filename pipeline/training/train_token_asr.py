"""One ASR training from stored tokens, with neither audio nor SSL model in sight."""

from collections.abc import Mapping

import numpy as np
import torch

from pipeline.asr.model import AsrModel
from pipeline.asr.targets import text_pieces
from pipeline.audio.utterance import CorpusError, Reject, rejects_to_table
from pipeline.config import Config
from pipeline.corpus.read_outputs import read_split, read_tokens, tokens_in
from pipeline.corpus.speed import read_split_or_copy
from pipeline.corpus.summary import commonest
from pipeline.log.stage_log import StageLog
from pipeline.metrics import plots
from pipeline.progress import Progress
from pipeline.storage.artifacts import Artifact
from pipeline.training.checkpoint_store import CheckpointStore
from pipeline.training.history import History
from pipeline.training.inputs import Example, TrainingData
from pipeline.training.loop import JointTraining
from pipeline.training.setup import examples
from pipeline.training.token_asr import TokenLearner, UnitSource
from pipeline.training.worker import Worker
from pipeline.units.subwords import Subwords


def train_token_asr(
    config: Config,
    inputs: Mapping[str, Artifact],
    output: Artifact,
    worker: Worker,
    *,
    log: StageLog,
    progress: Progress,
) -> dict[str, float]:
    """What every training worker does; the leading one writes. Returns scores.

    Raises:
        CorpusError: too many utterances have a text that CTC cannot align with their subwords.
        SubwordError: no subwords can be made of the training split's units.
    """
    own, corpus = config.for_token_asr, inputs["prepare_corpus"]
    units = _units(own, inputs)
    train = read_split(corpus, own.corpus.splits.train)
    subwords = Subwords.train(own.token_asr, [units[utterance.utt_id] for utterance in train])
    pieces = text_pieces(own, corpus)
    torch.manual_seed(own.training.seed)
    model = TokenLearner(AsrModel(own.asr, len(subwords), None, pieces))
    data, rejects = _training_data(own, corpus, units, subwords, model.asr)
    num_epochs = sum(phase.epochs for phase in own.training.phases)
    history = History(num_epochs, *((log, progress) if worker.leads else ()))
    store = CheckpointStore(output)
    training = JointTraining(own, model, data, worker, store=store, history=history)
    scores = training.run()
    weights = training.weights()
    if worker.leads:
        # A model of its own: the trained one may be in parts, on all workers.
        trained = TokenLearner(AsrModel(own.asr, len(subwords), None, pieces))
        trained.load_state_dict(weights)
        _export(trained.asr, subwords, rejects, output)
        log.figure(plots.learning_curves(history.rows), "learning_curves.png")
    worker.barrier()
    return {**scores, **_counts(data, units, subwords), "rejected_utterances": float(len(rejects))}


def _units(config: Config, inputs: Mapping[str, Artifact]) -> dict[str, np.ndarray]:
    """The units of the training split, its copies and the validation split, by utt_id."""
    splits = (config.corpus.splits.train, config.corpus.splits.valid, *config.speed_copies)
    read = (read_tokens(tokens_in(inputs, split), split) for split in splits)
    return {utt_id: units for of_split in read for utt_id, units in of_split.items()}


def _training_data(
    config: Config,
    corpus: Artifact,
    units: Mapping[str, np.ndarray],
    subwords: Subwords,
    asr: AsrModel,
) -> tuple[TrainingData, list[Reject]]:
    kept: list[list[Example]] = []
    rejects: list[Reject] = []
    splits = config.corpus.splits
    for split, copies in ((splits.train, config.speed_copies), (splits.valid, ())):
        parts = (split, *copies)
        utterances = [each for part in parts for each in read_split_or_copy(config, corpus, part)]
        lengths = {each.utt_id: len(subwords.encode(units[each.utt_id])) for each in utterances}
        usable, unusable = examples(utterances, lengths, asr)
        if not usable or len(unusable) > config.corpus.max_reject_share * len(utterances):
            raise CorpusError(
                f"{len(unusable)} of {len(utterances)} utterances of split '{split}' cannot be trained "
                f"on, more than corpus.max_reject_share {config.corpus.max_reject_share:g} allows:\n"
                f"{commonest(unusable)}\n"
                "Lower token_asr.subwords.vocabulary_size or token_asr.asr.subsampling, set "
                "token_asr.asr.text.kind to sentencepiece, or raise corpus.max_reject_share"
            )
        kept.append(usable)
        rejects += unusable
    source = UnitSource(units, subwords, asr.settings.subsampling, config.training.seed)
    return TrainingData(kept[0], kept[1], {"frozen": source}), rejects


def _counts(
    data: TrainingData, units: Mapping[str, np.ndarray], subwords: Subwords
) -> dict[str, float]:
    """How much shorter the model's input is than the units, on the validation split."""
    chosen = [units[example.utterance.utt_id] for example in data.valid]
    num_subwords = sum(len(subwords.encode(each)) for each in chosen)
    return {
        "subwords": float(len(subwords)),
        "units_per_subword": sum(map(len, chosen)) / num_subwords,
    }


def _export(asr: AsrModel, subwords: Subwords, rejects: list[Reject], output: Artifact) -> None:
    """Write `asr/`, `subwords/` and `rejects.parquet`."""
    with output.write_folder("asr") as folder:
        asr.eval().cpu().save_pretrained(folder)
    with output.write_folder(Subwords.FOLDER) as folder:
        subwords.save(folder)
    output.write_table("rejects.parquet", rejects_to_table(rejects))
