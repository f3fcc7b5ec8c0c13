"""What a vocoder is trained on: spectra of several resolutions, and adversaries. Each loss is a scalar."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss, relu

from pipeline.audio.mel import mel_bank
from pipeline.vocoder.discriminators import Judgement

FLOOR = 1e-5
WINDOWS = (128, 512, 2048)  # samples: 8, 32 and 128 ms at 16 kHz


class SpectralLosses(NamedTuple):
    """The mel and the STFT loss, each averaged over the windows."""

    mel: Tensor
    stft: Tensor


class SpectralLoss(nn.Module):
    """How far made speech is from recordings, by spectra of several window lengths.

    Mel: L1 between log-mel magnitudes up to `band_hz`, as in HiFi-GAN (Kong et al., 2020), which has
    one window of 1024. STFT: the spectral convergence |real - made| / |real| of magnitudes (Frobenius
    norms, over the batch) plus L1 between their logarithms up to `band_hz`, as in Parallel WaveGAN
    (Yamamoto et al., 2020). The convergence sees what lies above the band too, where recordings
    are silent.
    """

    def __init__(
        self, sample_rate_hz: int, band_hz: float | None = None, windows: tuple[int, ...] = WINDOWS
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            _Resolution(sample_rate_hz, band_hz or sample_rate_hz / 2, window) for window in windows
        )

    def forward(self, made_BS: Tensor, real_BS: Tensor) -> SpectralLosses:
        losses = [part(made_BS, real_BS) for part in self.parts]
        mel, stft = (torch.stack(each).mean() for each in zip(*losses, strict=True))
        return SpectralLosses(mel, stft)


class _Resolution(nn.Module):
    """Both losses with one window length; the hop is a quarter of it."""

    window_W: Tensor
    bank_FM: Tensor

    def __init__(self, sample_rate_hz: int, band_hz: float, window_length: int) -> None:
        super().__init__()
        self.band_bins = round(band_hz * window_length / sample_rate_hz) + 1
        self.register_buffer("window_W", torch.hann_window(window_length), persistent=False)
        num_mels = min(80, window_length // 16)
        bank_FM = mel_bank(window_length, sample_rate_hz, num_mels, band_hz)
        self.register_buffer("bank_FM", bank_FM, persistent=False)

    def forward(self, made_BS: Tensor, real_BS: Tensor) -> SpectralLosses:
        made_BTF, real_BTF = self._magnitudes(made_BS), self._magnitudes(real_BS)
        mel = l1_loss(_log(made_BTF @ self.bank_FM), _log(real_BTF @ self.bank_FM))
        band = slice(self.band_bins)
        convergence = (real_BTF - made_BTF).norm() / real_BTF.norm().clamp(min=FLOOR)
        log_distance = l1_loss(_log(made_BTF[..., band]), _log(real_BTF[..., band]))
        return SpectralLosses(mel, convergence + log_distance)

    def _magnitudes(self, waveform_BS: Tensor) -> Tensor:
        length = len(self.window_W)
        spectrum_BFT = torch.stft(
            waveform_BS, length, length // 4, window=self.window_W, return_complex=True
        )
        # The root has no gradient at zero.
        power_BFT = spectrum_BFT.real.square() + spectrum_BFT.imag.square()
        return power_BFT.clamp(min=FLOOR**2).sqrt().transpose(1, 2)


class Game(NamedTuple):
    """What the two sides lose: a discriminator by scores of recordings and of made speech, the vocoder
    by those of its speech.
    """

    judge: Callable[[Tensor, Tensor], Tensor]
    speaker: Callable[[Tensor], Tensor]


GAMES = {
    # HiFi-GAN: recordings towards 1, made speech towards 0; the vocoder wants 1.
    "least_squares": Game(
        lambda real, made: (1 - real).square().mean() + made.square().mean(),
        lambda made: (1 - made).square().mean(),
    ),
    # Vocos, after Lim and Ye, "Geometric GAN" (2017): recordings above 1, made speech below -1.
    "hinge": Game(
        lambda real, made: relu(1 - real).mean() + relu(1 + made).mean(),
        lambda made: relu(1 - made).mean(),
    ),
}


def discriminator_loss(game: Game, real: list[Judgement], made: list[Judgement]) -> Tensor:
    """Summed over discriminators, in float32, as the other losses are."""
    terms = [
        game.judge(r.scores.float(), m.scores.float()) for r, m in zip(real, made, strict=True)
    ]
    return torch.stack(terms).sum()


def adversarial_loss(game: Game, made: list[Judgement]) -> Tensor:
    """Summed over discriminators."""
    return torch.stack([game.speaker(m.scores.float()) for m in made]).sum()


def feature_matching_loss(real: list[Judgement], made: list[Judgement]) -> Tensor:
    """L1 between the layers' outputs for recordings and for made speech, summed over all layers."""
    terms = [
        l1_loss(made_map.float(), real_map.detach().float())
        for r, m in zip(real, made, strict=True)
        for real_map, made_map in zip(r.maps, m.maps, strict=True)
    ]
    return torch.stack(terms).sum()


def _log(magnitude: Tensor) -> Tensor:
    return torch.log(magnitude.clamp(min=FLOOR))
