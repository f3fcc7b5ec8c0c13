import torch

from pipeline.asr.decoder import Decoder
from pipeline.config import Asr

SETTINGS = Asr(dim=16, heads=2, feedforward_dim=24, decoder_layers=3, dropout=0.1)
VOCABULARY = 9


def make_decoder():
    torch.manual_seed(0)
    return Decoder(SETTINGS, VOCABULARY).eval()


def test_step_equals_forward_also_when_hypotheses_change_places():
    decoder = make_decoder()
    encoded = torch.randn(11, 16)
    tokens = torch.tensor([[1, 4, 3, 7], [1, 2, 2, 5], [1, 4, 8, 6]])
    padding = torch.zeros(3, 11, dtype=torch.bool)
    whole = decoder(tokens, encoded.expand(3, -1, -1), padding).log_softmax(-1)
    state = decoder.begin().take(torch.tensor([0, 0, 0]))
    order = torch.tensor([0, 1, 2])
    for step in range(4):
        log_probs, state = decoder.step(tokens[order, step], state, encoded)
        torch.testing.assert_close(log_probs, whole[order, step], atol=1e-5, rtol=0)
        turn = torch.tensor([2, 0, 1])
        order, state = order[turn], state.take(turn)


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
