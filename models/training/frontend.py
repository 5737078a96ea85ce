"""The convolutions' own training: hearing before understanding.

A few hundred clips are far too few to find a filter bank by classifying emotions. So the first layer starts
as a bank of Gabor filters, and all convolutions first learn to predict what phoneticians would compute: a
log-mel spectrum and the strength of each pitch. Then they stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from warmline.emotion.architecture import Emotion2Vec, Frontend
from warmline.emotion.engine import SAMPLE_RATE

LOWEST_HZ, HIGHEST_HZ = 40.0, 7800.0
PHASES = 4  # filters to a band: after GELU their sum hardly depends on the phase

# The first layer's norm has an epsilon of 1e-5. Filters so weak that the mean square of their outputs is about
# that let a frame's loudness through: a silent frame stays small where a strong filter's norm would raise it.
FILTER_SCALE = 0.003

MEL_BANDS = 48
MEL_SAMPLES = 512
MEL_FLOOR = 1e-2  # of the power spectrum of a window of unit variance
PITCHES = 32
PITCH_HZ = (65.0, 450.0)
PITCH_SAMPLES = 800
PITCH_FFT_SAMPLES = 1080  # the longest lag is not reached by the other end's
PITCH_FLOOR = 30.0  # keeps the autocorrelation of silence near zero
SIDE_SAMPLES = 160  # targets are taken this far before and after a frame's centre

CROP_SAMPLES = 16_000
BATCH = 16
LEARNING_RATE = 3e-3


def pretrain(
    model: Emotion2Vec,
    pool: Tensor,
    clips: Tensor,
    *,
    steps: int,
    seed: int,
    progress: Callable[[Iterable[int]], Iterable[int]],
) -> float:
    """Trains `model.frontend` on these clips' versions in the pool (versions, clips, samples).

    Returns the share of the targets' variance that the last tenth of the steps left unexplained.
    """
    generator = torch.Generator().manual_seed(seed)
    frontend, architecture = model.frontend, model.architecture
    filters = frontend.convs[0].weight
    with torch.no_grad():
        filters.copy_(gabor_bank(filters.size(0), filters.size(2)) * FILTER_SCALE)
    targets = AcousticTargets(architecture.min_samples // 2, architecture.stride_samples)
    frames = architecture.frames(CROP_SAMPLES)
    sample = targets(_draw(pool, clips, 200, generator), frames)
    mean, deviation = sample.mean(dim=(0, 1)), sample.std(dim=(0, 1))

    decoder = nn.Linear(architecture.embed_dim, mean.numel())
    others = [weight for module in (frontend, decoder) for weight in module.parameters() if weight is not filters]
    optimiser = torch.optim.AdamW([{"params": others}, {"params": [filters]}], weight_decay=0.01)
    rates = [LEARNING_RATE, LEARNING_RATE * FILTER_SCALE * 0.1]  # Adam's steps do not shrink with the weights
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, steps, pct_start=0.1)
    losses = []
    for _ in progress(range(steps)):
        waves = _draw(pool, clips, BATCH, generator)
        wanted = (targets(waves, frames) - mean) / deviation
        loss = (decoder(frontend(waves)) - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    tail = losses[-max(1, steps // 10) :]
    return sum(tail) / len(tail)


@torch.no_grad()
def hear(frontend: Frontend, pool: Tensor) -> Tensor:
    """All of the pool through the convolutions: (versions, clips, frames, channels), half precision."""
    frontend.eval()
    return torch.stack(
        [torch.cat([frontend(_normalise(part.float())).half() for part in version.split(32)]) for version in pool]
    )


def _draw(pool: Tensor, clips: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(count, CROP_SAMPLES) from random versions of random clips, each row normalised."""
    chosen = clips[torch.randint(len(clips), (count,), generator=generator)]
    versions = torch.randint(pool.size(0), (count,), generator=generator)
    start = int(torch.randint(pool.size(2) - CROP_SAMPLES + 1, (1,), generator=generator))
    return _normalise(pool[versions, chosen, start : start + CROP_SAMPLES].float())


def _normalise(waves: Tensor) -> Tensor:
    return F.layer_norm(waves, waves.shape[1:])


def _mel_spaced(count: int) -> Tensor:
    """Frequencies in Hz, evenly spaced on the mel scale (O'Shaughnessy, 1987)."""
    low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (LOWEST_HZ, HIGHEST_HZ))
    return 700 * (10 ** (torch.linspace(low, high, count) / 2595) - 1)


def gabor_bank(channels: int, width: int) -> Tensor:
    """(channels, 1, width): mel-spaced bands in four phases, each filter of unit norm with pre-emphasis."""
    edges = _mel_spaced(channels // PHASES + 2).tolist()
    seconds = (torch.arange(width) - (width - 1) / 2) / SAMPLE_RATE
    filters = []
    for (low, centre), (_, high) in pairwise(pairwise(edges)):
        bandwidth = max((high - low) / 2, 35.0)
        window = torch.exp(-0.5 * (2.2 * bandwidth * seconds) ** 2) * torch.hann_window(width, periodic=False)
        for phase in range(PHASES):
            wave = window * torch.cos(2 * math.pi * (centre * seconds + phase / PHASES))
            wave = wave - window * (wave.sum() / window.sum())  # deaf to a constant offset
            filters.append(wave / wave.norm() * (1 + centre / 800) ** 0.9)
    return torch.stack(filters)[:, None]


class AcousticTargets:
    """What the frames should know of their surroundings: log-mel energies and the strength of each pitch."""

    def __init__(self, centre_samples: int, stride_samples: int) -> None:
        self.first = centre_samples
        self.stride = stride_samples
        edges = _mel_spaced(MEL_BANDS + 2)
        low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
        hertz = torch.fft.rfftfreq(MEL_SAMPLES, 1 / SAMPLE_RATE)
        triangles = torch.minimum((hertz - low) / (centre - low), (high - hertz) / (high - centre)).clamp_min(0)
        self.mel = (triangles / triangles.sum(dim=1, keepdim=True).clamp_min(1e-6)).T  # (bins, bands)
        lags = torch.linspace(math.log(SAMPLE_RATE / PITCH_HZ[1]), math.log(SAMPLE_RATE / PITCH_HZ[0]), PITCHES)
        self.lags = lags.exp().round().long()
        self.window = torch.hann_window(PITCH_SAMPLES)
        own = self._autocorrelation(torch.ones(PITCH_SAMPLES))
        self.fading = own[self.lags] / own[0]  # the window's own loss of correlation (Boersma, 1993)

    def __call__(self, waves: Tensor, frames: int) -> Tensor:
        """Normalised windows (B, samples) to (B, frames, 2 x (bands + pitches))."""
        parts = []
        for side in (-SIDE_SAMPLES, SIDE_SAMPLES):
            short = self._frames(waves, frames, MEL_SAMPLES, side) * torch.hann_window(MEL_SAMPLES)
            parts.append(torch.log(torch.fft.rfft(short).abs().square() @ self.mel + MEL_FLOOR))
            correlation = self._autocorrelation(self._frames(waves, frames, PITCH_SAMPLES, side))
            parts.append(correlation[..., self.lags] / (correlation[..., :1] + PITCH_FLOOR) / self.fading)
        return torch.cat(parts, dim=-1)

    def _frames(self, waves: Tensor, frames: int, width: int, side: int) -> Tensor:
        margin = PITCH_SAMPLES
        start = margin + self.first + side - width // 2
        padded = F.pad(waves, (margin, margin + self.stride))
        return padded.unfold(1, width, 1)[:, start :: self.stride][:, :frames]  # (B, frames, width)

    def _autocorrelation(self, frames: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(frames * self.window, n=PITCH_FFT_SAMPLES)
        return torch.fft.irfft(spectrum.abs().square(), n=PITCH_FFT_SAMPLES)
