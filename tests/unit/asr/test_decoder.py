import torch

from pipeline.asr import decoder_state
from pipeline.asr.decoder import Decoder
from pipeline.asr.encoded import Encoded
from pipeline.config import Asr

SETTINGS = Asr(dim=16, heads=2, feedforward_dim=24, decoder_layers=3, dropout=0.1)
VOCABULARY = 9


def make_decoder():
    torch.manual_seed(0)
    return Decoder(SETTINGS, VOCABULARY).eval()


def check_steps(decoder, encoded, tokens_BNS, turns):
    """Each step equals the last column of `forward`, however texts change places in between."""
    num_texts = tokens_BNS.shape[1]
    state = decoder.begin(encoded)
    order_BN = torch.zeros(len(tokens_BNS), 1, dtype=torch.long)
    utterances_B1 = torch.arange(len(tokens_BNS))[:, None]
    for step in range(tokens_BNS.shape[2]):
        texts_BNS = tokens_BNS[utterances_B1, order_BN][..., : step + 1]
        log_probs, state = decoder.step(texts_BNS[..., step], state)
        for text in range(order_BN.shape[1]):
            whole = decoder(texts_BNS[:, text], encoded.frames_BTD, encoded.padding)
            wanted = whole[:, -1].log_softmax(-1)
            torch.testing.assert_close(log_probs[:, text], wanted, atol=1e-5, rtol=0)
        rows_BN = next(turns) if step else torch.zeros(len(tokens_BNS), num_texts).long()
        order_BN = (
            order_BN.gather(1, rows_BN) if step else torch.arange(num_texts).expand_as(rows_BN)
        )
        state = state.choose(rows_BN)
    return state


def test_steps_equal_forward_when_texts_change_places_and_branches_die(monkeypatch):
    monkeypatch.setattr(decoder_state, "STEPS_BETWEEN_CLEARINGS", 3)
    decoder = make_decoder()
    lengths = torch.tensor([11, 7])
    encoded = Encoded(torch.randn(2, 11, 16), lengths, torch.empty(0))
    # All texts begin with the same token, the sentence's beginning.
    tokens = torch.randint(2, VOCABULARY, (2, 4, 12))
    tokens[..., 0] = 1
    generator = torch.Generator().manual_seed(0)
    turns = iter(lambda: torch.randint(4, (2, 4), generator=generator), None)
    state = check_steps(decoder, encoded, tokens, turns)
    assert state.ancestors_BNM.shape[2] < 4 * 12


def test_utterances_that_leave_change_nothing_for_the_others():
    decoder = make_decoder()
    encoded = Encoded(torch.randn(3, 9, 16), torch.tensor([9, 4, 6]), torch.empty(0))
    _, state = decoder.step(torch.ones(3, 1).long(), decoder.begin(encoded))
    state = state.choose(torch.zeros(3, 2).long())
    newest = torch.tensor([[3, 4], [5, 6], [7, 8]])
    wanted, _ = decoder.step(newest, state)
    kept = torch.tensor([2, 0])
    found, _ = decoder.step(newest[kept], state.keep(kept))
    torch.testing.assert_close(found, wanted[kept], atol=1e-5, rtol=0)


def test_no_token_sees_a_later_one_nor_frames_behind_the_end():
    decoder = make_decoder()
    encoded = torch.randn(1, 8, 16)
    padding = torch.tensor([[False] * 5 + [True] * 3])
    tokens = torch.tensor([[1, 2, 3, 4]])
    logits = decoder(tokens, encoded, padding)
    changed_tokens, changed_frames = tokens.clone(), encoded.clone()
    changed_tokens[0, 3] = 7
    changed_frames[0, 5:] += 10
    again = decoder(changed_tokens, changed_frames, padding)
    torch.testing.assert_close(again[:, :3], logits[:, :3], atol=1e-5, rtol=0)
    assert (again[:, 3] - logits[:, 3]).abs().max() > 1e-3


def test_frames_and_earlier_tokens_matter():
    decoder = make_decoder()
    encoded = torch.randn(1, 8, 16)
    padding = torch.zeros(1, 8, dtype=torch.bool)
    logits = decoder(torch.tensor([[1, 2, 3]]), encoded, padding)
    other_token = decoder(torch.tensor([[1, 5, 3]]), encoded, padding)
    other_frames = decoder(torch.tensor([[1, 2, 3]]), encoded.flip(-1), padding)
    assert (logits[:, 2] - other_token[:, 2]).abs().max() > 1e-3
    assert (logits - other_frames).abs().max() > 1e-3


def test_layers_start_from_different_weights():
    first, second, _ = (layer.linear1.weight for layer in make_decoder().stack.layers)
    assert not torch.equal(first, second)


def test_its_feed_forward_blocks_may_be_wider_than_the_encoders():
    same = SETTINGS.model_copy(update={"decoder_feedforward_dim": 40})
    widths = [
        {layer.linear1.out_features for layer in Decoder(each, VOCABULARY).stack.layers}
        for each in (SETTINGS, same)
    ]
    assert widths == [{24}, {40}]
