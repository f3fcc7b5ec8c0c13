"""How much of a fine-tuned SSL model has to be computed twice, so that a step fits into the memory."""

from pipeline.features.ssl import SslModel

# Of WavLM large, fine-tuned in bfloat16 under autocast over utterances of 10 s with a frozen front
# end: 100 s took 10.7 GB and 400 s 36.6 GB; with all of its 24 blocks computed again, 6.3 and 13.2 GB.
# So a frame takes so many bytes for each of the model's dimensions, in each block and beside them.
BYTES_OF_A_BLOCK = 52
BYTES_BESIDE_BLOCKS = 440
FRAMES_PER_SECOND = 50  # inside all encoders, whatever they pool afterwards

# Weight, gradient and AdamW's two moments, float32.
BYTES_OF_A_PARAMETER = 16

# Attention takes more for longer utterances, and other models are built otherwise.
USED_SHARE = 0.6


def blocks_to_recompute(
    ssl: SslModel, seconds: float, memory_bytes: int | None, num_parts: int = 1
) -> int:
    """How many blocks of `ssl` to compute again in the backward pass over `seconds` of audio.

    Args:
        ssl: the model, of which all is trained.
        seconds: the audio of one pass, over which gradients are made at once.
        memory_bytes: of the GPU; `None` on a CPU, which recomputes nothing.
        num_parts: of as many parts of the parameters, with gradients and moments, the GPU has one.
    """
    if memory_bytes is None:
        return 0
    num_parameters = sum(parameter.numel() for parameter in ssl.parameters())
    num_values = seconds * FRAMES_PER_SECOND * ssl.hidden_size
    own_parameters = num_parameters / num_parts
    fixed = own_parameters * BYTES_OF_A_PARAMETER + num_values * BYTES_BESIDE_BLOCKS
    kept = int((USED_SHARE * memory_bytes - fixed) // (num_values * BYTES_OF_A_BLOCK))
    return min(ssl.num_layers, max(0, ssl.num_layers - kept))
