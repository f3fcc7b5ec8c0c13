import math

import pytest
import torch
from reference.beam_search import best_text
from reference.ctc import negative_log_likelihood

from pipeline import config
from pipeline.asr.model import AsrModel
from pipeline.asr.search import beam_search, greedy_ctc
from pipeline.asr.text_units import TextUnits


def make_model(alphabet="abc", num_units=10, **changes):
    settings = {"embedding_dim": 16, "dim": 16, "heads": 2, "feedforward_dim": 32, "conv_kernel": 5}
    units = TextUnits.train(config.TextUnits(), [alphabet])
    return AsrModel.from_config(config.Asr(**{**settings, **changes}), num_units, None, units)


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
    return sum(log_probs[step, unit].item() for step, unit in enumerate([*text, 1]))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [sharpen, loosen])
@pytest.mark.parametrize("ctc_weight", [0.0, 0.4, 1.0])
def test_a_wide_beam_finds_the_best_text_there_is(seed, shape, ctc_weight):
    torch.manual_seed(seed)
    model = make_model(subsampling=1).eval()
    shape(model)
    embedded = torch.randn(1, 4, 16)
    with torch.no_grad():
        encoded, _ = model.encode(embedded, torch.tensor([4]))
        log_probs = model.ctc_log_probs(encoded)[0]
        wanted = best_text(
            units=range(2, 5),
            max_units=4,
            ctc_weight=ctc_weight,
            # A zero weight takes no part, also for a text that CTC rules out.
            log_p_ctc=lambda text: (
                -min(negative_log_likelihood(log_probs, list(text)), 1e30) if ctc_weight else 0.0
            ),
            log_p_attention=lambda text: log_p_attention(model, encoded, text),
        )
    found = beam_search(
        model,
        embedded,
        torch.tensor([4]),
        beam_size=3**4,
        ctc_weight=ctc_weight,
        max_length_share=1.0,
    )
    assert found == [model.text_units.decode(wanted)]


def test_greedy_merges_repeats_and_drops_blanks():
    model = make_model("ab ").eval()  # ids: blank 0, edge 1, space 2, a 3, b 4
    shown = torch.tensor([[0, 3, 3, 0, 3, 2, 1, 2, 4, 4], [4, 4, 0, 4, 3, 3, 3, 3, 3, 3]])
    model.encode = lambda embedded, lengths: (embedded, lengths)
    model.ctc_log_probs = lambda encoded: encoded
    texts = greedy_ctc(model, torch.eye(5)[shown], torch.tensor([10, 4]))
    assert texts == ["aa b", "bb"]


def test_results_do_not_depend_on_the_batch():
    torch.manual_seed(0)
    model = make_model("abc ").eval()
    loosen(model)
    frames = torch.randn(3, 30, 16)
    lengths = torch.tensor([30, 11, 5])
    settings = {"beam_size": 4, "ctc_weight": 0.4, "max_length_share": 1.0}
    together = beam_search(model, frames, lengths, **settings)
    greedy = greedy_ctc(model, frames, lengths)
    assert len(set(together)) == len(set(greedy)) == 3
    for row, length in enumerate(lengths.tolist()):
        alone = (frames[row : row + 1, :length], torch.tensor([length]))
        assert beam_search(model, *alone, **settings) == [together[row]]
        assert greedy_ctc(model, *alone) == [greedy[row]]


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_length_is_bounded(share):
    torch.manual_seed(0)
    model = make_model(subsampling=1).eval()
    with torch.no_grad():
        model.decoder.output.bias[1] = -1e4  # the decoder never ends by itself
    text = beam_search(
        model,
        torch.randn(1, 12, 16),
        torch.tensor([12]),
        beam_size=2,
        ctc_weight=0.0,
        max_length_share=share,
    )[0]
    assert len(text) <= max(1, math.floor(share * 12))


def test_training_mode_and_empty_utterances_are_refused():
    model = make_model()
    with pytest.raises(ValueError, match="evaluation mode"):
        greedy_ctc(model.train(), torch.randn(1, 4, 16), torch.tensor([4]))
    with pytest.raises(ValueError, match="without frames"):
        greedy_ctc(model.eval(), torch.randn(1, 4, 16), torch.tensor([0]))


def test_a_small_model_learns_four_utterances_by_heart():
    torch.manual_seed(0)
    texts = ["ab ba", "cab", "a bb c", "bca ac"]
    model = make_model("abc ", num_units=12, dropout=0.0, dim=32).train()
    units = torch.randint(12, (4, 40))
    lengths = torch.tensor([40, 30, 36, 40])
    targets = [model.text_units.encode(text) for text in texts]
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        losses = model.losses(model.embed(units), lengths, targets)
        optimizer.zero_grad()
        (0.3 * losses["ctc"] + 0.7 * losses["attention"]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    embedded = model.embed(units)
    assert greedy_ctc(model, embedded, lengths) == texts
    settings = {"beam_size": 4, "ctc_weight": 0.4, "max_length_share": 1.0}
    assert beam_search(model, embedded, lengths, **settings) == texts
