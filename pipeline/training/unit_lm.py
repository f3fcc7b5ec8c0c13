"""One training of a language model of units, from the tokens of a corpus."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from pipeline.config import Config
from pipeline.corpus.read_outputs import read_split, read_tokens, tokenizer_grid
from pipeline.corpus.shards import TOKENS
from pipeline.lm.causal_lm import CausalLm
from pipeline.lm.unit_lm import UnitLm
from pipeline.log.stage_log import StageLog
from pipeline.metrics import plots
from pipeline.metrics.units import units_in_range
from pipeline.progress import Progress
from pipeline.storage.artifacts import Artifact
from pipeline.tokenizer.identity import tokenizer_of_shards
from pipeline.training.causal_lm import CausalLmTraining
from pipeline.training.checkpoint_store import CheckpointStore
from pipeline.training.history import History
from pipeline.training.worker import Worker
from pipeline.units.subwords import Subwords


def train_unit_lm(
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
        SubwordError: no subwords can be made of the training split's units.
    """
    settings = config.unit_lm.training
    splits = (config.corpus.splits.train, config.corpus.splits.valid)
    units = [
        list(read_tokens(inputs[f"tokenize_corpus/{split}"], split).values()) for split in splits
    ]
    lm = _build(config, inputs, units[0])
    train, valid = ([lm.encode(each) for each in of_split] for of_split in units)
    leading = (log, progress) if worker.leads else ()
    history = History(settings.epochs, *leading)
    store = CheckpointStore(output, worker.device)
    training = CausalLmTraining(
        settings, lm.model, train, valid, worker, store=store, history=history
    )
    scores = training.run()
    if worker.leads:
        lm.model.cpu()
        with output.write_folder("unit_lm") as folder:
            lm.save_pretrained(folder)
        log.figure(plots.learning_curves(history.rows), "learning_curves.png")
    worker.barrier()
    return {**scores, "symbols": float(len(lm.subwords))}


def _build(config: Config, inputs: Mapping[str, Artifact], units: Sequence[np.ndarray]) -> UnitLm:
    """A new model, with random weights from the seed, and subwords of the units to train on."""
    split, trained = config.corpus.splits.train, inputs["train_joint"]
    num_units = trained.read_json("tokenizer/config.json")["num_units"]
    # As if each unit had been heard once: so none is unknown, wherever it occurs first.
    heard = [*units, np.arange(num_units)]
    subwords = Subwords.train(config.unit_lm, heard)
    symbols = sum(len(subwords.encode(units_in_range(each, num_units))) for each in units)
    seconds = sum(each.duration for each in read_split(inputs["prepare_corpus"], split))
    torch.manual_seed(config.unit_lm.training.seed)
    edge = len(subwords)
    return UnitLm(
        CausalLm.build(config.unit_lm.transformer, edge + 1, edge),
        subwords,
        num_units=num_units,
        tokenizer=tokenizer_of_shards(inputs[f"tokenize_corpus/{split}"], TOKENS),
        units_per_second=tokenizer_grid(trained).frames_per_second,
        symbols_per_second=symbols / seconds,
    )
