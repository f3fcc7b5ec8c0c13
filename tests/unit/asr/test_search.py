import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from reference.beam_search import beam_search as slow_beam_search
from reference.beam_search import ranked_texts
from reference.ctc import negative_log_likelihood, prefix_probability

from pipeline import config
from pipeline.asr import candidates
from pipeline.asr.encoded import Encoded
from pipeline.asr.model import AsrModel
from pipeline.asr.scorer import Weighted
from pipeline.asr.search import beam_search, greedy_search
from pipeline.asr.text_pieces import TextPieces

BEAM = config.AsrEvaluation(beam_size=4, ctc_weight=0.4)


def make_model(alphabet="abc", num_units=None, **changes):
    """A model over `num_units` units, or else over features of 16 dimensions."""
    settings = {"embedding_dim": 16, "dim": 16, "heads": 2, "feedforward_dim": 32, "conv_kernel": 5}
    pieces = TextPieces.train(config.TextPieces(), [alphabet])
    input_dim = 16 if num_units is None else None
    return AsrModel(config.Asr(**{**settings, **changes}), num_units, input_dim, pieces)


def make_features(*num_frames):
    return [torch.randn(length, 16).numpy() for length in num_frames]


@torch.no_grad()
def sharpen(model):
    """Make a random model opinionated, so that the best text is no tie."""
    model.ctc_head.weight.mul_(4.0)
    model.decoder.output.weight.mul_(4.0)


@torch.no_grad()
def loosen(model):
    """Make a random model's texts long and different: opinions on frames, none on endings."""
    model.ctc_head.weight.mul_(10.0)
    model.ctc_head.bias[0] = -5.0
    model.decoder.output.bias[1] = -2.0


@dataclass(frozen=True)
class NewestOf:
    """The state of a bigram model: nothing but the texts' newest pieces."""

    pieces_R: torch.Tensor

    def take(self, rows_R):
        return NewestOf(self.pieces_R[rows_R])


class Bigrams:
    """A language model that looks one piece back, and checks that it is told the truth."""

    def __init__(self, log_probs_VV):
        self.log_probs_VV = log_probs_VV

    def begin(self, num_texts, device):
        return NewestOf(torch.zeros(num_texts, dtype=torch.long, device=device))

    def step(self, pieces_R, state):
        assert len(pieces_R) == len(state.pieces_R)
        # Two pieces back: so a state that follows the wrong text is found out.
        log_probs = self.log_probs_VV[pieces_R] + 0.5 * self.log_probs_VV[state.pieces_R]
        return log_probs, NewestOf(pieces_R)

    def log_p(self, predicted):
        before, newest, total = 0, 1, 0.0
        for piece in predicted:
            total += self.log_probs_VV[newest, piece] + 0.5 * self.log_probs_VV[before, piece]
            before, newest = newest, piece
        return float(total)


class Scored:
    """The scores of texts in one utterance, each computed from the whole text."""

    def __init__(self, model, features, settings, weighted):
        self.model, self.settings, self.weighted = model, settings, weighted
        encoded = model.hear([features])
        self.frames, self.log_probs = encoded.frames_BTD, encoded.log_probs_BTV[0]

    def complete(self, text):
        ctc = -min(negative_log_likelihood(self.log_probs, list(text)), 1e30)
        return self._joint(text, ctc, [*text, 1])

    def partial(self, text):
        mass = prefix_probability(self.log_probs, text)
        return self._joint(text, math.log(mass) if mass > 0 else -1e30, text)

    def _joint(self, text, ctc, predicted):
        padding = torch.zeros(self.frames.shape[:2], dtype=torch.bool)
        read = torch.tensor([[1, *text]])
        next_SV = self.model.decoder(read, self.frames, padding)[0].log_softmax(-1)
        total = (1 - self.settings.ctc_weight) * sum(
            next_SV[step, piece].item() for step, piece in enumerate(predicted)
        )
        # A zero weight takes no part, also for a text that CTC rules out.
        total += self.settings.ctc_weight * ctc if self.settings.ctc_weight else 0.0
        total += self.weighted.weight * self.weighted.scorer.log_p(predicted)
        return total + self.settings.length_bonus * len(text)


def make_bigrams(size):
    return Bigrams((2 * torch.randn(size, size)).log_softmax(-1))


def check_found(found, wanted):
    """The same texts with the same scores; texts of equal scores may change places."""
    assert [each.score for each in found] == pytest.approx([score for _, score in wanted], abs=1e-4)
    assert {each.pieces for each in found} == {text for text, _ in wanted}


@pytest.mark.parametrize("shape", [sharpen, loosen])
@pytest.mark.parametrize("ctc_weight", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("bonus", "lm_weight"), [(0.0, 0.0), (1.5, 0.7), (0.5, 0.0)])
@torch.no_grad()
def test_a_wide_beam_finds_the_best_texts_there_are(shape, ctc_weight, bonus, lm_weight):
    torch.manual_seed(0)
    model = make_model(subsampling=1).eval()
    shape(model)
    features = make_features(4, 2)
    weighted = Weighted(make_bigrams(5), lm_weight)
    settings = config.AsrEvaluation(
        beam_size=3**4, ctc_weight=ctc_weight, length_bonus=bonus, nbest=5
    )
    found = beam_search(model.hear(features), model.decoder, settings, [weighted])
    for each, hypotheses in zip(features, found, strict=True):
        scored = Scored(model, each, settings, weighted)
        check_found(hypotheses, ranked_texts(range(2, 5), len(each), scored.complete)[:5])
    best = [model.text_of(hypotheses[0].pieces) for hypotheses in found]
    assert model.transcribe(features, settings, [weighted]) == best


@pytest.mark.parametrize(("seed", "bonus"), [(0, 0.0), (1, 1.0)])
@torch.no_grad()
def test_a_narrow_beam_meets_the_texts_of_the_slow_search(seed, bonus):
    torch.manual_seed(seed)
    model = make_model("abcdef ", subsampling=1, decoder_layers=2).eval()
    loosen(model)
    weighted = Weighted(make_bigrams(9), 0.4)
    settings = config.AsrEvaluation(beam_size=3, ctc_weight=0.4, length_bonus=bonus, nbest=4)
    features = make_features(10, 4, 7)
    found = beam_search(model.hear(features), model.decoder, settings, [weighted])
    for each, hypotheses in zip(features, found, strict=True):
        scored = Scored(model, each, settings, weighted)
        wanted = slow_beam_search(range(2, 9), 3, len(each), scored.complete, scored.partial)
        check_found(hypotheses, wanted[:4])


def confident(num_frames, vocabulary, texts, sharpness=6):
    """What an encoder and CTC might say of these texts: their pieces at even distances."""
    shown = torch.zeros(len(texts), num_frames, dtype=torch.long)
    for row, text in zip(shown, texts, strict=True):
        row[torch.linspace(0, num_frames - 2, len(text)).long()] = torch.tensor(text)
    logits = sharpness * torch.nn.functional.one_hot(shown, vocabulary) + torch.randn(
        len(texts), num_frames, vocabulary
    )
    return Encoded(
        torch.randn(len(texts), num_frames, 16),
        torch.full((len(texts),), num_frames),
        logits.log_softmax(-1),
    )


@pytest.mark.parametrize("ctc_weight", [0.3, 1.0])
@torch.no_grad()
def test_candidates_without_an_exact_score_could_not_have_been_chosen(ctc_weight, monkeypatch):
    torch.manual_seed(0)
    model = make_model("".join(map(chr, range(97, 197)))).eval()
    encoded = confident(60, 102, torch.randint(2, 102, (3, 12)).tolist())
    settings = config.AsrEvaluation(beam_size=6, ctc_weight=ctc_weight, nbest=6)
    few = beam_search(encoded, model.decoder, settings)
    found = [few]
    for counts in ((1, 1), (1, 4), (2, 1000), (1000, 1000)):
        monkeypatch.setattr(candidates, "CANDIDATES_PER_PLACE", counts)
        found.append(beam_search(encoded, model.decoder, settings))
    *others, every = found
    for of_each in others:
        for one, other in zip(of_each, every, strict=True):
            check_found(one, [(each.pieces, each.score) for each in other])


@torch.no_grad()
def test_a_bonus_does_not_keep_the_search_going_where_ctc_sees_no_more_pieces(monkeypatch):
    torch.manual_seed(0)
    model = make_model("".join(map(chr, range(97, 117)))).eval()
    texts = torch.randint(2, 22, (2, 10)).tolist()
    encoded = confident(80, 22, texts, sharpness=14)
    steps, step = [], model.decoder.step
    monkeypatch.setattr(model.decoder, "step", lambda *args: steps.append(1) or step(*args))
    settings = config.AsrEvaluation(beam_size=4, ctc_weight=0.9, length_bonus=1.0)
    found = beam_search(encoded, model.decoder, settings)
    assert [list(hypotheses[0].pieces) for hypotheses in found] == texts
    assert len(steps) < 30


def test_greedy_merges_repeats_drops_blanks_and_stops_at_the_end():
    shown = torch.tensor([[0, 3, 3, 0, 3, 2, 1, 2, 4, 4], [4, 4, 0, 4, 2, 3, 2, 3, 2, 3]])
    log_probs = torch.eye(5)[shown]  # blank 0, sentence edge 1
    encoded = Encoded(torch.zeros(2, 10, 1), torch.tensor([10, 4]), log_probs)
    assert greedy_search(encoded) == [[3, 3, 2, 2, 4], [4, 4]]


def test_results_do_not_depend_on_the_batch():
    torch.manual_seed(1)
    model = make_model("abc ").eval()
    loosen(model)
    features = make_features(30, 11, 5)
    for search_settings in (BEAM, None):
        together = model.transcribe(features, search_settings)
        assert len(set(together)) == 3
        assert [model.transcribe([alone], search_settings)[0] for alone in features] == together
        assert all(text == " ".join(text.split()) for text in together)


def test_a_language_model_of_weight_0_takes_no_part():
    torch.manual_seed(0)
    model = make_model("abc ").eval()
    loosen(model)
    impossible = Bigrams(torch.full((6, 6), -torch.inf))
    features = make_features(12)
    wanted = model.transcribe(features, BEAM)
    assert model.transcribe(features, BEAM, [Weighted(impossible, 0.0)]) == wanted
    # One that rules out every text leaves the empty one.
    assert model.transcribe(features, BEAM, [Weighted(impossible, 0.1)]) == [""]


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_length_is_bounded(share):
    torch.manual_seed(0)
    model = make_model(subsampling=1).eval()
    with torch.no_grad():
        model.decoder.output.bias[1] = -1e4  # the decoder never ends by itself
    settings = config.AsrEvaluation(beam_size=2, ctc_weight=0.0, max_length_share=share)
    (text,) = model.transcribe(make_features(12), settings)
    assert len(text) <= max(1, math.floor(share * 12))


def test_training_mode_and_empty_utterances_are_rejected():
    model = make_model()
    with pytest.raises(ValueError, match="evaluation mode"):
        model.train().transcribe(make_features(4), None)
    with pytest.raises(ValueError, match="without frames"):
        model.eval().transcribe(make_features(4, 0), None)


def test_units_may_be_of_any_integer_type():
    torch.manual_seed(0)
    model = make_model("abc ", num_units=10).eval()
    loosen(model)
    units = np.random.default_rng(0).integers(10, size=20)
    (text,) = model.transcribe([units], BEAM)
    assert len(text) > 2
    assert model.transcribe([units.astype(np.uint16)], BEAM) == [text]


def test_a_small_model_learns_four_utterances_by_heart():
    torch.manual_seed(0)
    texts = ["ab ba", "cab", "a bb c", "bca ac"]
    model = make_model("abc ", num_units=12, dropout=0.0, dim=32).train()
    units = torch.randint(12, (4, 40))
    lengths = torch.tensor([40, 30, 36, 40])
    targets = [model.text_pieces.encode(text) for text in texts]
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        losses = model.losses(model.embed(units), lengths, targets)
        optimizer.zero_grad()
        (0.3 * losses["ctc"] + 0.7 * losses["attention"]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    spoken = [row[:length].numpy() for row, length in zip(units, lengths.tolist(), strict=True)]
    assert model.transcribe(spoken, None) == texts
    assert model.transcribe(spoken, BEAM) == texts
