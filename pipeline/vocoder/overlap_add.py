"""The inverse STFT, in which frame i is centred on the samples [hop i, hop (i + 1))."""

import torch
from torch import Tensor, nn
from torch.nn.functional import fold, pad


class OverlapAdd(nn.Module):
    """Spectra of T frames to hop T samples: inverse FFT, window, sum, division by the squared windows.

    `window_length` is made odd or even as `hop` is, by one sample more, so that a window has the same
    number of samples on either side of its hop. A torch.istft with `center` would have frame i
    centred on sample hop i, half a hop too early.
    """

    window_W: Tensor

    def __init__(self, window_length: int, hop: int) -> None:
        super().__init__()
        self.hop = hop
        self.window_length = window_length + (window_length - hop) % 2
        self.register_buffer("window_W", torch.hann_window(self.window_length), persistent=False)

    def forward(self, spectrum_BTF: Tensor, inside_BT: Tensor) -> Tensor:
        """B x T x F bins from 0 Hz on, those above taken as 0, to B x (hop T) samples.

        Frames that are not `inside` their row are left out.
        """
        frames_BTW = torch.fft.irfft(spectrum_BTF, n=self.window_length) * self.window_W
        total_BS = self._sum(frames_BTW * inside_BT[:, :, None])
        weight_BS = self._sum(self.window_W.square() * inside_BT[:, :, None])
        # Only samples outside their row have no window.
        return total_BS / weight_BS.clamp(min=1e-4)

    def spectrum(self, samples_BS: Tensor) -> Tensor:
        """B x (hop T) samples to the B x T x F spectra of which `forward` makes them again."""
        margin = (self.window_length - self.hop) // 2
        frames_BTW = pad(samples_BS, (margin, margin)).unfold(1, self.window_length, self.hop)
        spectrum_BTF: Tensor = torch.fft.rfft(frames_BTW * self.window_W)
        return spectrum_BTF

    def _sum(self, frames_BTW: Tensor) -> Tensor:
        """Add frames where they belong; what reaches beyond the first and the last hop is cut off."""
        num_frames = frames_BTW.shape[1]
        length = self.hop * (num_frames - 1) + self.window_length
        summed_B11S = fold(
            frames_BTW.transpose(1, 2), (1, length), (1, self.window_length), stride=(1, self.hop)
        )
        margin = (self.window_length - self.hop) // 2
        return pad(summed_B11S[:, 0, 0], (-margin, -margin))
