"""`continue`: units that a trained language model draws to follow those of utterances."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from rich.console import Console

from pipeline.commands.find_model import load_model
from pipeline.commands.token_files import TokenFile, check_tokenizer, token_files
from pipeline.config import ConfigError
from pipeline.lm.unit_lm import UnitLm
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact
from pipeline.storage.folders import Folder
from pipeline.storage.writable import require_writable
from pipeline.tokenizer.identity import DEDUPLICATED, TOKENIZER


@dataclass(frozen=True)
class Continuation:
    """What is drawn: of each prompt at most its first `prompt_seconds`, all of it if `None`."""

    seconds: float
    prompt_seconds: float | None
    temperature: float
    seed: int


def continue_units(
    model: str, tokens: Sequence[str], wanted: Continuation, output: str, console: Console
) -> None:
    """Write the Parquet file `output`: each utterance of the files `tokens` with what follows it.

    Folders stand for the files of units in them. An utterance's draws depend on its id and the seed, not
    on the others.

    Raises:
        ConfigError: a file has no tokens, or units of another tokenizer or codebook, or an utterance
            has no units.
        UnwritableError: `output` cannot be written, which is found before any work.
    """
    require_writable(output, as_file=True)
    lm = load_model(model, "unit_lm", UnitLm.from_pretrained)
    files = token_files(tokens)
    check_tokenizer(model, lm.tokenizer, "train_unit_lm", files, console)
    rows = [
        {"utt_id": utt_id, "split": "", "units": units, "num_frames": len(units)}
        for file in files
        for utt_id, units in _continued(lm, file, wanted)
    ]
    table = pa.Table.from_pylist(rows, schema=table_schemas.TOKENS)
    about = {} if lm.tokenizer is None else {TOKENIZER: lm.tokenizer}
    about |= {DEDUPLICATED: "true"} if lm.subwords.deduplicated else {}
    folder, name = Folder.around(output)
    Artifact(folder.uri).write_table(name, table.replace_schema_metadata(about or None))
    console.print(f"{output}: {len(rows)} utterances", markup=False, highlight=False)


def _continued(lm: UnitLm, file: TokenFile, wanted: Continuation) -> "list[tuple[str, np.ndarray]]":
    """Each utterance's id, and its units with those that follow."""
    return [(utt_id, _one(lm, file, utt_id, units, wanted)) for utt_id, units in file.rows()]


def _one(
    lm: UnitLm, file: TokenFile, utt_id: str, units: np.ndarray, wanted: Continuation
) -> np.ndarray:
    if wanted.prompt_seconds is not None:
        if file.deduplicated:
            raise ConfigError(
                f"{file.uri} has de-duplicated units, whose seconds nobody knows: leave "
                "--prompt-seconds out"
            )
        units = units[: round(wanted.prompt_seconds * lm.units_per_second)]
    try:
        return lm.go_on(
            units, wanted.seconds, temperature=wanted.temperature, seed=f"{wanted.seed}/{utt_id}"
        )
    except ValueError as error:
        raise ConfigError(f"{file.uri}: {utt_id}: {error}") from error
