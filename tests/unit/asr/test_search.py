import math

import numpy as np
import pytest
import torch
from reference.beam_search import best_text
from reference.ctc import negative_log_likelihood

from pipeline import config
from pipeline.asr.model import AsrModel
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


def log_p_attention(model, encoded, text):
    tokens = torch.tensor([[1, *text]])
    padding = torch.zeros(1, encoded.shape[1], dtype=torch.bool)
    log_probs = model.decoder(tokens, encoded, padding)[0].log_softmax(-1)
    return sum(log_probs[step, piece].item() for step, piece in enumerate([*text, 1]))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [sharpen, loosen])
@pytest.mark.parametrize("ctc_weight", [0.0, 0.4, 1.0])
def test_a_wide_beam_finds_the_best_text_there_is(seed, shape, ctc_weight):
    torch.manual_seed(seed)
    model = make_model(subsampling=1).eval()
    shape(model)
    features = make_features(4)
    with torch.no_grad():
        embedded = model.embed(torch.from_numpy(features[0])[None])
        encoded, _ = model.encode(embedded, torch.tensor([4]))
        log_probs = model.ctc_log_probs(encoded)[0]
        wanted = best_text(
            pieces=range(2, 5),
            max_pieces=4,
            ctc_weight=ctc_weight,
            # A zero weight takes no part, also for a text that CTC rules out.
            log_p_ctc=lambda text: (
                -min(negative_log_likelihood(log_probs, list(text)), 1e30) if ctc_weight else 0.0
            ),
            log_p_attention=lambda text: log_p_attention(model, encoded, text),
        )
        settings = config.AsrEvaluation(beam_size=3**4, ctc_weight=ctc_weight)
        assert beam_search(log_probs, encoded[0], model.decoder, settings) == list(wanted)
    assert model.transcribe(features, settings) == [model.text_pieces.decode(wanted)]


def test_greedy_merges_repeats_and_drops_blanks():
    shown = torch.tensor([0, 3, 3, 0, 3, 2, 1, 2, 4, 4])  # blank 0, sentence edge 1
    assert greedy_search(torch.eye(5)[shown]) == [3, 3, 2, 2, 4]
    assert greedy_search(torch.eye(5)[torch.tensor([4, 4, 0, 4])]) == [4, 4]


def test_results_do_not_depend_on_the_batch():
    torch.manual_seed(1)
    model = make_model("abc ").eval()
    loosen(model)
    features = make_features(30, 11, 5)
    for search in (BEAM, None):
        together = model.transcribe(features, search)
        assert len(set(together)) == 3
        assert [model.transcribe([alone], search)[0] for alone in features] == together
        assert all(text == " ".join(text.split()) for text in together)


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
