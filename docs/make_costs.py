"""Print what all variants of the LibriSpeech recipe would cost: GPU hours, disk and money.

python docs/make_costs.py > docs/costs.md

Times of a training step come from tests/benchmarks/records/step_shares-cuda.json; everything else
that is not in a config is a figure of `Machine`, and the page names it.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from pipeline.config import Config, Phase
from pipeline.config.files import load_all
from pipeline.metrics.comparison import ORDER

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "configs/librispeech100"
RECORD = ROOT / "tests/benchmarks/records/step_shares-cuda.json"
PAGE = """\
# What LibriSpeech-100 would cost

**An estimate: nobody has run this recipe.** All variants of `configs/librispeech100`, one seed each, on one GPU such as the NVIDIA H200 on
which the steps were measured. Other cards differ: an A100 has about a third of its bfloat16 arithmetic. Outputs that several variants
read are counted once, as *shared*. This page is made by `python docs/make_costs.py > docs/costs.md`, which takes other assumptions as options.

GPU hours by stage, and what is stored:

{rows}

`finetuned_kmeans` starts from the training of `continuous_full`, which it runs if that is not there. While a training runs, its checkpoints take up to {checkpoints:.0f} GB more; they are deleted when it has finished.

## Assumptions

| option | here | what it is |
| --- | ---: | --- |
{assumed}

Steps of training: the seconds of `step_shares` for 100 and 400 s of audio ([benchmarks](../tests/benchmarks/README.md)), with
gradient checkpointing, on a line between the two, part by part: the SSL model counts where it is fine-tuned, the quantizer where there are
units. An epoch also passes over the validation split, at a third of the cost of training on it. Where a frozen SSL model's features
are read from the storage, a step takes at least as long as reading its layers; k-means takes all of `codebook.max_passes`, which is the most
it may. Stages of a moment are left out, and so is `evaluate_asr`, which runs on CPUs. Tokens, scores and tables are less than 1 GB.

For a first look, `kmeans` and `dkm_full` on their own: `dkm run librispeech100/kmeans.yaml librispeech100/dkm_full.yaml`.
"""
STAGES = ("extract_features", "fit_codebook", "train_joint", "tokenize_corpus", "train_vocoder")
HEADER = (
    f"| variant | {' | '.join(STAGES)} | together | GB | US$ |\n"
    f"| --- |{' ---: |' * (len(STAGES) + 3)}"
)
# Of features and codebook, which most variants read alike.
SHARED = "shared"
# Panayotov et al. (2015), table 1.
HOURS = {"train-clean-100": 100.6, "dev-clean": 5.4, "test-clean": 5.4, "test-other": 5.1}
FRAMES_PER_SECOND, DIM, BYTES_PER_VALUE = 50, 1024, 2
SSL_PARAMETERS, ASR_PARAMETERS = 317e6, 39e6
# Weights in float32; a checkpoint also has both moments of AdamW, and two are kept for a while.
MODEL_BYTES = 4 * (SSL_PARAMETERS + ASR_PARAMETERS)
CHECKPOINT_BYTES = 2 * 3 * MODEL_BYTES
# Of a step's parts, what a validation pass does as well.
FORWARD_SHARE = 1 / 3


def _assumed(value: float, what: str) -> float:
    number: float = field(default=value, metadata={"help": what})
    return number


@dataclass(frozen=True)
class Machine:
    """What is assumed of the machine; each figure is an option of the command."""

    price: float = _assumed(4.0, "US dollars for an hour of the GPU; ask your provider")
    storage_gb: float = _assumed(1.0, "GB that the storage reads or writes in a second")
    extraction: float = _assumed(
        2300.0,
        "seconds of audio that WavLM-large turns into hidden states in a second; measured there on "
        "batches of mixed lengths, before extraction computed in bfloat16 and was compiled: 2,345 for one layer, "
        "2,234 for all",
    )
    assignment: float = _assumed(
        3.2e13,
        "frames x units x dimensions that k-means compares in a second; measured there as 200,000 x "
        "1,000 x 768 in 4.9 ms",
    )
    asr_growth: float = _assumed(
        1.26,
        "time of the E-Branchformer over that of the Conformer that was measured; taken from the "
        "parameters of the encoders, 24.2 and 19.2 millions",
    )
    vocoder_steps: float = _assumed(8.0, "steps of the vocoder in a second; a guess")


@dataclass(frozen=True)
class Row:
    """What one stage costs. Variants that agree on a stage share it."""

    stage: str
    gpu_hours: float
    gigabytes: float


@dataclass(frozen=True)
class Steps:
    """Seconds of a training step's parts by the audio of a pass, between two sizes measured."""

    parts: dict[str, tuple[float, float]]  # at 0 s of audio, and for each second more

    @classmethod
    def read(cls) -> "Steps":
        record = json.loads(RECORD.read_text(encoding="utf-8"))
        small, large = (record["setting"][f"{size}_batch_seconds"] for size in ("small", "large"))

        def part(name: str, audio: float) -> float:
            size = f"{audio:g} s"
            seconds: float = record["contenders"][size]["best_seconds"]
            return seconds * float(record["checks"][f"{name} at {size}"])

        parts = {}
        for name in ("SSL model", "quantizer", "ASR model", "optimizer"):
            slope = (part(name, large) - part(name, small)) / (large - small)
            parts[name] = (part(name, small) - slope * small, slope)
        return cls(parts)

    def seconds(self, name: str, audio: float) -> float:
        start, slope = self.parts[name]
        return start + slope * audio


@dataclass(frozen=True)
class Costs:
    """Of one variant's stages on one GPU."""

    config: Config
    machine: Machine
    steps: Steps

    def rows(self) -> Iterator[Row]:
        splits = self.config.corpus.splits
        trained_on = self._training_hours + HOURS[splits.valid]
        features = self._layer_gigabytes(trained_on) * len(self.config.features.layers)
        yield Row("extract_features", self._passes(trained_on, features), features)
        has_units = self.config.quantizer.has_units
        if has_units:
            yield Row("fit_codebook", self._codebook_hours(), 0.0)
        phases = self.config.training.phases
        model = MODEL_BYTES / 1e9
        yield Row("train_joint", sum(map(self._phase_hours, phases)), model)
        if has_units:
            everything = sum(HOURS[split] for split in splits.names)
            yield Row("tokenize_corpus", self._passes(everything, 0.0), 0.0)
        if self.config.vocoder.enabled and has_units:
            hours = self.config.vocoder.steps / self.machine.vocoder_steps / 3600
            yield Row("train_vocoder", hours, 0.1)

    @property
    def _training_hours(self) -> float:
        """With the copies at other speeds: a slower one is longer."""
        hours = HOURS[self.config.corpus.splits.train]
        return hours * sum(1 / speed for speed in self.config.training.speeds)

    def _layer_gigabytes(self, hours: float) -> float:
        return hours * 3600 * FRAMES_PER_SECOND * DIM * BYTES_PER_VALUE / 1e9

    def _passes(self, hours: float, written_gb: float) -> float:
        """GPU hours for hidden states of so much audio, if the storage keeps up or not."""
        seconds = hours * 3600 / self.machine.extraction
        return max(seconds, written_gb / self.machine.storage_gb) / 3600

    def _codebook_hours(self) -> float:
        hours = HOURS[self.config.corpus.splits.train]
        compared = hours * 3600 * FRAMES_PER_SECOND * self.config.codebook.num_units * DIM
        reading = self._layer_gigabytes(hours) / self.machine.storage_gb
        of_a_pass = max(compared / self.machine.assignment, reading)
        return self.config.codebook.max_passes * of_a_pass / 3600

    def _phase_hours(self, phase: Phase) -> float:
        splits, training = self.config.corpus.splits, self.config.training
        num_steps = self._training_hours * 3600 / training.batch_seconds
        validated = FORWARD_SHARE * HOURS[splits.valid] / self._training_hours
        return phase.epochs * num_steps * (1 + validated) * self._step_seconds(phase) / 3600

    def _step_seconds(self, phase: Phase) -> float:
        training = self.config.training
        of_a_pass = training.batch_seconds / training.accumulate
        seconds = self.machine.asr_growth * self.steps.seconds("ASR model", of_a_pass)
        if self.config.quantizer.has_units:
            seconds += self.steps.seconds("quantizer", of_a_pass)
        if phase.ssl == "finetuned":
            seconds += self.steps.seconds("SSL model", of_a_pass)
        step = seconds * training.accumulate
        step += self.steps.seconds("optimizer", training.batch_seconds)
        layers = 0 if phase.ssl == "finetuned" else len(self.config.used_layers)
        reading = layers * self._layer_gigabytes(training.batch_seconds / 3600)
        return max(step, reading / self.machine.storage_gb)


def by_owner(costs: Sequence[Costs]) -> dict[str, dict[str, Row]]:
    """Each variant's own rows by stage. Features and codebook are shared unless the SSL model is another."""
    owners: dict[str, dict[str, Row]] = {SHARED: {}}
    for each in costs:
        is_shared = each.config.ssl.finetuned_by is None
        for row in each.rows():
            before_training = row.stage in {"extract_features", "fit_codebook"}
            owner = SHARED if before_training and is_shared else each.config.variant
            owners.setdefault(owner, {})[row.stage] = row
    return owners


def table(owners: dict[str, dict[str, Row]], price: float) -> str:
    """A line for each owner, with the GPU hours of its stages, and one for all."""
    lines = [_line(owner, rows, price) for owner, rows in owners.items()]
    every = [row for rows in owners.values() for row in rows.values()]
    sums = {
        stage: Row(
            stage,
            sum(row.gpu_hours for row in every if row.stage == stage),
            sum(row.gigabytes for row in every if row.stage == stage),
        )
        for stage in STAGES
    }
    return "\n".join([HEADER, *lines, _line("**all**", sums, price)])


def _line(owner: str, rows: dict[str, Row], price: float) -> str:
    hours = sum(row.gpu_hours for row in rows.values())
    cells = [f"{rows[stage].gpu_hours:.1f}" if stage in rows else "" for stage in STAGES]
    gigabytes = sum(row.gigabytes for row in rows.values())
    return f"| {' | '.join([owner, *cells, f'{hours:.1f}', f'{gigabytes:.0f}', f'{hours * price:.0f}'])} |"


def page(machine: Machine) -> str:
    configs = load_all([RECIPE / f"{variant}.yaml" for variant in ORDER])
    owners = by_owner([Costs(each, machine, Steps.read()) for each in configs])
    assumed = "\n".join(
        f"| `--{each.name.replace('_', '-')}` | {getattr(machine, each.name):g} | "
        f"{each.metadata['help']} |"
        for each in fields(Machine)
    )
    rows, checkpoints = table(owners, machine.price), CHECKPOINT_BYTES / 1e9
    return PAGE.format(rows=rows, assumed=assumed, checkpoints=checkpoints)


def machine_of(arguments: Sequence[str]) -> Machine:
    parser = argparse.ArgumentParser(description="Print what the LibriSpeech recipe would cost.")
    for each in fields(Machine):
        name = f"--{each.name.replace('_', '-')}"
        parser.add_argument(name, type=float, default=each.default, help=each.metadata["help"])
    return Machine(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.stdout.write(page(machine_of(sys.argv[1:])))
