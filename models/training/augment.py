"""Other speakers, rooms and lines, made from the clips there are.

Everything that is slow is done once: `make_pool` renders a number of versions of each clip, and training draws
among them. Version 0 is the clip itself and version 1 the clip over a plain telephone line; both are also what
validation is done on, for the speakers that are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor

from warmline.emotion.engine import SAMPLE_RATE

CLEAN, TELEPHONE = 0, 1  # the versions that no chance touched
FULL_SCALE = 32_000

FFT_SAMPLES = 1024
HOP_SAMPLES = 256
ENVELOPE_QUEFRENCIES = 40  # cepstral coefficients that make the envelope: the rest is the voice's pitch
REVERB_SAMPLES = 4000


def make_pool(
    waves: Tensor, versions: int, *, seed: int, progress: Callable[[Iterable[int]], Iterable[int]]
) -> Tensor:
    """Versions of each clip, (versions, clips, samples) int16 with each row at full scale; at least two."""
    pool = torch.zeros(versions, *waves.shape, dtype=torch.int16)
    for version in progress(range(versions)):
        rng = np.random.default_rng((seed, version))
        if version == CLEAN:
            rendered = waves
        elif version == TELEPHONE:
            rendered = telephone(waves, 300.0, 3400.0)
        else:
            tempo, formants = np.exp(rng.uniform([-0.2, -0.12], [0.2, 0.12]))
            voices = torch.cat([change_voice(part, float(tempo), float(formants)) for part in waves.split(64)])
            rendered = torch.stack([_disturb(voice, waves.size(1), rng) for voice in voices])
        peak = rendered.abs().amax(dim=-1, keepdim=True).clamp_min(1e-4)
        pool[version] = (rendered / peak * FULL_SCALE).round().to(torch.int16)
    return pool


def change_voice(waves: Tensor, tempo: float, formants: float) -> Tensor:
    """(clips, samples) spoken `tempo` times as fast, formants moved by `formants`; the pitch stays.

    A phase vocoder for the tempo (Flanagan and Golden, 1966); for the formants the cepstral envelope is
    stretched along the frequencies.
    """
    window = torch.hann_window(FFT_SAMPLES)
    spectrum = torch.stft(waves, FFT_SAMPLES, HOP_SAMPLES, window=window, return_complex=True)  # (B, F, T)
    cepstrum = torch.fft.irfft(spectrum.abs().clamp_min(1e-5).log(), dim=1)  # (B, FFT, T)
    cepstrum[:, ENVELOPE_QUEFRENCIES : 1 - ENVELOPE_QUEFRENCIES] = 0
    envelope = torch.fft.rfft(cepstrum, dim=1).real  # (B, F, T), natural log
    last = envelope.size(1) - 1
    source = (torch.arange(last + 1) / formants).clamp(max=last)
    below, part = source.long(), source.frac()[:, None]
    moved = envelope[:, below] * (1 - part) + envelope[:, (below + 1).clamp(max=last)] * part
    spectrum = spectrum * (moved - envelope).clamp(-4, 4).exp()

    times = torch.arange(0, spectrum.size(2) - 1, tempo)
    here, part = times.long(), times.frac()
    now, following = spectrum[:, :, here], spectrum[:, :, here + 1]
    magnitude = now.abs() * (1 - part) + following.abs() * part
    expected = torch.linspace(0, math.pi * HOP_SAMPLES, last + 1)[:, None]
    advance = following.angle() - now.angle() - expected
    advance = advance - 2 * math.pi * torch.round(advance / (2 * math.pi)) + expected
    phase = torch.cumsum(torch.cat([now[:, :, :1].angle(), advance[:, :, :-1]], dim=2), dim=2)
    return torch.istft(torch.polar(magnitude, phase), FFT_SAMPLES, HOP_SAMPLES, window=window)


def telephone(waves: Tensor, low_hz: float, high_hz: float) -> Tensor:
    """(.., samples) over a telephone line: band-pass, 8 kHz, mu-law with 8 bits (ITU-T G.711), back to 16 kHz."""
    samples = waves.size(-1)
    hertz = torch.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    band = torch.sigmoid((hertz - low_hz) / 15) * torch.sigmoid((high_hz - hertz) / 40)
    waves = torch.fft.irfft(torch.fft.rfft(waves) * band, n=samples)
    waves = waves / waves.abs().amax(dim=-1, keepdim=True).clamp_min(1e-6) * 0.5
    narrow = torch.fft.rfft(_mu_law(waves[..., ::2]))
    wide = F.pad(narrow, (0, samples // 2 + 1 - narrow.size(-1)))
    return torch.fft.irfft(2 * wide, n=samples)


def _mu_law(waves: Tensor) -> Tensor:
    levels = torch.sign(waves) * torch.log1p(255 * waves.abs()) / math.log(256)
    levels = torch.round(levels * 127.5) / 127.5
    return torch.sign(levels) * torch.expm1(levels.abs() * math.log(256)) / 255


def _disturb(wave: Tensor, samples: int, rng: np.random.Generator) -> Tensor:
    """One random speaker size, microphone, room, noise, line and level; (any,) to (samples,)."""
    speed = float(np.exp(rng.uniform(-0.12, 0.12)))  # pitch, formants and tempo together
    wave = F.interpolate(wave[None, None], scale_factor=1 / speed, mode="linear")[0, 0]
    wave = _fit(wave, samples, rng)
    if rng.random() < 0.75:
        wave = _colour(wave, rng)
    if rng.random() < 0.6:
        wave = wave + _noise(samples, rng) * wave.std() * 10 ** (-rng.uniform(5, 40) / 20)
    if rng.random() < 0.45:
        wave = telephone(wave, rng.uniform(80, 350), rng.uniform(3200, 3800))
    if rng.random() < 0.15:
        limit = float(wave.abs().max()) * rng.uniform(0.4, 0.9)
        wave = wave.clamp(-limit, limit)  # a level set too high
    return wave


def _fit(wave: Tensor, samples: int, rng: np.random.Generator) -> Tensor:
    """A random part of a longer wave; a shorter one somewhere within silence."""
    spare = wave.size(0) - samples
    if spare > 0:
        start = int(rng.integers(spare + 1))
        return wave[start : start + samples]
    before = int(rng.integers(1 - spare))
    return F.pad(wave, (before, -spare - before))


def _colour(wave: Tensor, rng: np.random.Generator) -> Tensor:
    """A random smooth equaliser (3 dB, one standard deviation) and, at times, a room's decay."""
    padded = wave.size(0) + REVERB_SAMPLES
    hertz = np.fft.rfftfreq(padded, 1 / SAMPLE_RATE)
    knots = np.linspace(np.log(60), np.log(60 + SAMPLE_RATE / 2), 8)
    gain_db = np.interp(np.log(60 + hertz), knots, rng.normal(0, 3, 8))
    response = torch.from_numpy(10 ** (gain_db / 20)).to(torch.complex64)
    if rng.random() < 0.3:
        seconds = np.arange(REVERB_SAMPLES) / SAMPLE_RATE
        tail = rng.normal(size=REVERB_SAMPLES) * np.exp(-6.9 * seconds / rng.uniform(0.1, 0.5))  # RT60
        tail *= rng.uniform(0.1, 0.6) / np.sqrt((tail**2).sum())
        tail[0] = 1
        response = response * torch.fft.rfft(torch.from_numpy(tail).float(), n=padded)
    return torch.fft.irfft(torch.fft.rfft(wave, n=padded) * response, n=padded)[: wave.size(0)]


def _noise(samples: int, rng: np.random.Generator) -> Tensor:
    """Noise between white and a little redder than pink, of unit variance."""
    white = torch.from_numpy(rng.normal(size=(2, samples // 2 + 1))).float()
    tilt = (torch.arange(samples // 2 + 1) + 20.0) ** -rng.uniform(0, 1.2)
    noise = torch.fft.irfft(torch.complex(white[0], white[1]) * tilt, n=samples)
    return noise / noise.std()
