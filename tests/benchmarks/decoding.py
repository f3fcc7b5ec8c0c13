"""Beam search over a batch of utterances, and the same search over one utterance at a time.

The weights are random, so CTC and a language model are made to agree about a text for each
utterance, and the attention decoder has no say: it costs what it costs, and weighs nothing. CTC
shows each piece in one frame, beside rivals, and blanks in between.

Shapes: B utterances, T frames, S pieces of text, V pieces in the vocabulary, R texts of the search.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import torch
import yaml
from torch import Tensor

from benchmarks.measure import Contender, costs, gather
from benchmarks.record import Record
from pipeline.asr.encoded import Encoded
from pipeline.asr.model import AsrModel
from pipeline.asr.nbest import Hypothesis
from pipeline.asr.scorer import Weighted
from pipeline.asr.search import beam_search
from pipeline.asr.text_pieces import BLANK, FIRST_PIECE, SENTENCE_EDGE, Characters
from pipeline.config import Asr, AsrEvaluation

RECIPE = Path(__file__).resolve().parents[2] / "configs" / "librispeech100.yaml"
# Of CTC's logits: the blank between pieces and beside one; the piece; its rivals and their spread.
BLANK_LOGIT, HIDDEN_BLANK_LOGIT, PIECE_LOGIT = 16.0, 8.0, 15.0
RIVAL_LOGIT, RIVAL_SPREAD, RIVALS = 9.0, 2.0, 4
# Log-probability of the right next piece in the language model, and of all others together.
RIGHT, OTHERS = -0.105, -2.3
# As attention and CTC weigh by default, 0.6 to 0.4.
LM_WEIGHT = 1.5

NUM_UNITS = 2000


@dataclass(frozen=True)
class Work:
    """Utterances to decode.

    Attributes:
        asr: keys of the ASR model that differ from the defaults, or "recipe" for LibriSpeech's.
        pieces: of each utterance's text; the utterances are a little shorter one by one.
        alone: so many are searched one at a time: all would take minutes.
    """

    asr: Any
    vocabulary: int
    beam: int
    utterances: int
    units: int
    pieces: int
    alone: int


TINY_ASR = {"embedding_dim": 16, "dim": 16, "heads": 2, "feedforward_dim": 32, "conv_kernel": 3}
TINY = {"tiny, beam 2": Work(TINY_ASR, 20, 2, utterances=3, units=40, pieces=4, alone=2)}
# 15 s at 50 units a second, as LibriSpeech's longer utterances; AN4's are shorter, its pieces letters.
FULL = {
    "AN4, beam 8": Work({}, 28, 8, utterances=32, units=150, pieces=20, alone=16),
    "LibriSpeech, beam 8": Work("recipe", 5000, 8, utterances=32, units=750, pieces=60, alone=4),
    "LibriSpeech, beam 20": Work("recipe", 5000, 20, utterances=32, units=750, pieces=60, alone=4),
}
WORKS = {"full": FULL, "small": TINY}
# A GPU is busy with large batches only.
GPU_BATCHES = 8
ROUNDS = {"full": 3, "small": 2}


def run(size: str, device: torch.device) -> Record:
    larger = GPU_BATCHES if (size, device.type) == ("full", "cuda") else 1
    works = {
        name: replace(work, utterances=larger * work.utterances)
        for name, work in WORKS[size].items()
    }
    searches = {name: _Search(work, device) for name, work in works.items()}
    builders = {}
    for name, search in searches.items():
        builders[f"{name}, batch"] = partial(together, search)
        builders[f"{name}, one at a time"] = partial(alone, search)
        builders[f"{name}, encoder"] = partial(encoder, search)
    contenders, left_out = gather(builders)
    checks = {key: value for name, search in searches.items() for key, value in check(name, search)}
    found = costs(contenders, device, ROUNDS[size])
    setting = {"rounds": ROUNDS[size], **{name: asdict(work) for name, work in works.items()}}
    pairs = [(f"{name}, one at a time", f"{name}, batch") for name in works]
    return Record("decoding", device.type, size, setting, found, left_out, pairs, checks)


def together(search: "_Search") -> Contender:
    def call() -> Sequence[Tensor]:
        search.batch()
        return ()

    return Contender(f"beam search over {search.work.utterances} utterances at once", call)


def alone(search: "_Search") -> Contender:
    def call() -> Sequence[Tensor]:
        search.one_at_a_time()
        return ()

    share = search.work.alone / search.work.utterances
    return Contender("the same search over one utterance at a time", call, share)


def encoder(search: "_Search") -> Contender:
    def call() -> Sequence[Tensor]:
        return [search.encode().frames_BTD]

    return Contender("encoder and CTC of these utterances, which both searches need", call)


def check(name: str, search: "_Search") -> Iterator[tuple[str, float]]:
    """Whether the searches agree and find the texts, and what the CPU does for an utterance."""
    started = process_time()
    batch = search.batch()
    yield f"{name}: CPU seconds an utterance", (process_time() - started) / len(batch)
    pairs = list(zip(batch, search.one_at_a_time(), strict=False))
    yield f"{name}: same texts", _share([one.pieces == two.pieces for one, two in pairs])
    texts = zip(batch, search.texts, strict=True)
    yield f"{name}: right texts", _share([list(found.pieces) == text for found, text in texts])


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values)


class _Search:
    """The work, with everything that is made before the clock runs."""

    @torch.no_grad()
    def __init__(self, work: Work, device: torch.device) -> None:
        torch.manual_seed(0)
        self.work = work
        self._model = _model(work).to(device).eval()
        self.texts = _texts(work)
        self._units_BT = torch.randint(NUM_UNITS, (work.utterances, work.units), device=device)
        encoded = self.encode()
        log_probs_BTV = _peaked(encoded.log_probs_BTV, self.texts)
        self._encoded = replace(encoded, log_probs_BTV=log_probs_BTV)
        # The decoder's weight is 1 - ctc_weight.
        self._settings = AsrEvaluation(beam_size=work.beam, ctc_weight=1.0)

    @torch.no_grad()
    def encode(self) -> Encoded:
        num_units_B = torch.full((self.work.utterances,), self.work.units)
        embedded_BTE = self._model.embed(self._units_BT)
        frames_BTD, lengths_B = self._model.encode(embedded_BTE, num_units_B)
        log_probs_BTV = self._model.ctc_log_probs(frames_BTD)
        return Encoded(frames_BTD, lengths_B.to(frames_BTD.device), log_probs_BTV)

    def batch(self) -> list[Hypothesis]:
        """The best text of each utterance."""
        return self._best(slice(None))

    def one_at_a_time(self) -> list[Hypothesis]:
        """The same of the first utterances."""
        return [self._best(slice(place, place + 1))[0] for place in range(self.work.alone)]

    @torch.no_grad()
    def _best(self, places: slice) -> list[Hypothesis]:
        all_of = self._encoded
        some = Encoded(
            all_of.frames_BTD[places], all_of.lengths_B[places], all_of.log_probs_BTV[places]
        )
        model = KnownTexts(self.texts[places], self.work.vocabulary)
        scorers = [Weighted(model, LM_WEIGHT)]
        found = beam_search(some, self._model.decoder, self._settings, scorers)
        return [hypotheses[0] for hypotheses in found]


@dataclass(frozen=True)
class KnownState:
    """What R texts should be, and how many pieces they have so far."""

    wanted_RS: Tensor
    num_read: int

    def take(self, rows_R: Tensor) -> "KnownState":
        return KnownState(self.wanted_RS[rows_R], self.num_read)


class KnownTexts:
    """A language model that knows what each utterance says, piece by piece, but not all that well."""

    def __init__(self, texts: Sequence[Sequence[int]], vocabulary: int) -> None:
        longest = 2 * max(map(len, texts)) + 2
        self._wanted_BS = torch.tensor(
            [[*text, *[SENTENCE_EDGE] * (longest - len(text))] for text in texts]
        )
        generator = torch.Generator().manual_seed(0)
        self._others_V = torch.randn(vocabulary, generator=generator).log_softmax(-1) + OTHERS

    def begin(self, num_texts: int, device: torch.device) -> KnownState:
        self._others_V = self._others_V.to(device)
        return KnownState(self._wanted_BS[:num_texts].to(device), 0)

    def step(self, pieces_R: Tensor, state: KnownState) -> tuple[Tensor, KnownState]:
        log_probs_RV = self._others_V.repeat(len(pieces_R), 1)
        place = min(state.num_read, state.wanted_RS.shape[1] - 1)
        log_probs_RV.scatter_(1, state.wanted_RS[:, place, None], RIGHT)
        return log_probs_RV, KnownState(state.wanted_RS, state.num_read + 1)


def _model(work: Work) -> AsrModel:
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))["asr"]
    settings = Asr.model_validate(recipe if work.asr == "recipe" else work.asr)
    # As many characters as pieces, without training a SentencePiece model for them.
    pieces = Characters("".join(map(chr, range(work.vocabulary - FIRST_PIECE))))
    return AsrModel(settings, NUM_UNITS, None, pieces)


def _texts(work: Work) -> list[list[int]]:
    """Random ones, up to a third shorter than the longest."""
    lengths = [work.pieces - index % (work.pieces // 3) for index in range(work.utterances)]
    return [torch.randint(FIRST_PIECE, work.vocabulary, (length,)).tolist() for length in lengths]


def _peaked(like_BTV: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
    """Log-probabilities as of a CTC that has learned: of these texts, at even distances."""
    logits_BTV = torch.randn_like(like_BTV)
    logits_BTV[..., BLANK] += BLANK_LOGIT
    num_frames, vocabulary = like_BTV.shape[1:]
    for logits_TV, text in zip(logits_BTV, texts, strict=True):
        frames_S = torch.linspace(1, num_frames - 1, len(text)).long()
        logits_TV[frames_S, BLANK] += HIDDEN_BLANK_LOGIT - BLANK_LOGIT
        rivals_SR = torch.randint(FIRST_PIECE, vocabulary, (len(text), RIVALS))
        spread_SR = RIVAL_LOGIT + RIVAL_SPREAD * torch.randn(len(text), RIVALS)
        logits_TV[frames_S[:, None], rivals_SR] = spread_SR.to(logits_TV)
        logits_TV[frames_S, text] = PIECE_LOGIT
    return logits_BTV.log_softmax(-1)
