"""Makes the sample calls in samples/calls from scripts read aloud by espeak-ng.

    python samples/make_samples.py

Needs espeak-ng (Debian: apt-get install -y espeak-ng) besides Warmline's worker dependencies. The calls are
checked in, so only a change to this script needs a new run. The same espeak-ng (1.51) gives the same samples; a
file whose samples would not change is left as it is, because Ogg stamps a random serial number on each new file.

The voices are synthetic and act no emotion: pitch, rate and loudness only suggest a mood, so that a timeline has
something to show. They say nothing about a model's quality.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

CALLS_DIR = Path(__file__).parent / "calls"
# The band of a telephone line, in hertz (ITU-T G.712).
LINE_BAND_HZ = (300.0, 3400.0)
LINE_NOISE_DBFS = -62.0
LEAD_SECONDS = 0.6

Samples = NDArray[np.float64]  # (samples,)


@dataclass(frozen=True, kw_only=True)
class Voice:
    """Who speaks, and in which mood. Pitch is 0 to 99, rate is words a minute, loudness 0 to 200 (espeak-ng's)."""

    name: str
    pitch: int = 50
    rate: int = 165
    loudness: int = 100


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One speaker's turn; `pause_seconds` of silence come before it."""

    channel: int
    voice: Voice
    text: str
    pause_seconds: float = 0.7


@dataclass(frozen=True, kw_only=True)
class Call:
    """One sample call and the file it is written to."""

    file_name: str
    sample_rate_hz: int
    container: str
    codec: str
    turns: Sequence[Turn]
    channels: int = 2
    compression_level: float | None = None
    telephone: bool = True


AGENT, CUSTOMER = 0, 1

BILLING_AGENT = Voice(name="en-us+f3", pitch=55, rate=165)
BILLING_CALM = Voice(name="en-gb+m3", pitch=40, rate=160)
BILLING_ANGRY = Voice(name="en-gb+m3", pitch=72, rate=215, loudness=170)

DELIVERY_AGENT = Voice(name="en-us+m1", pitch=42, rate=165)
DELIVERY_SAD = Voice(name="en-gb-scotland+f2", pitch=32, rate=115, loudness=70)
DELIVERY_HAPPY = Voice(name="en-gb-scotland+f2", pitch=82, rate=185, loudness=120)

GERMAN_AGENT = Voice(name="de+f4", pitch=52, rate=160)
GERMAN_CALM = Voice(name="de+m7", pitch=38, rate=150)
GERMAN_ANGRY = Voice(name="de+m7", pitch=68, rate=210, loudness=170)

REFUND_AGENT = Voice(name="en-us+f5", pitch=50, rate=170)
REFUND_WORRIED = Voice(name="en-us+m4", pitch=78, rate=205, loudness=90)
REFUND_GLAD = Voice(name="en-us+m4", pitch=66, rate=180, loudness=120)

VOICEMAIL = Voice(name="en-gb-x-rp+f1", pitch=38, rate=130, loudness=80)

MANDARIN_AGENT = Voice(name="cmn+f2", pitch=55, rate=165)
MANDARIN_GLAD = Voice(name="cmn+m3", pitch=70, rate=180, loudness=120)

CALLS = (
    Call(
        file_name="call-001-billing.wav",
        sample_rate_hz=8000,
        container="WAV",
        codec="ULAW",
        turns=(
            Turn(channel=AGENT, voice=BILLING_AGENT, text="Good morning, billing. How can I help you?"),
            Turn(channel=CUSTOMER, voice=BILLING_CALM, text="Hello. I was charged twice this month."),
            Turn(channel=AGENT, voice=BILLING_AGENT, text="Let me look. I see only one payment here."),
            Turn(
                channel=CUSTOMER,
                voice=BILLING_ANGRY,
                text="That is wrong! I have the bank statement right in front of me! This is the third time!",
                pause_seconds=0.3,
            ),
            Turn(
                channel=AGENT,
                voice=BILLING_AGENT,
                text="I am sorry. I will return the second payment today.",
                pause_seconds=1.4,
            ),
            Turn(channel=CUSTOMER, voice=BILLING_CALM, text="Fine. Thank you."),
        ),
    ),
    Call(
        file_name="call-002-delivery.mp3",
        sample_rate_hz=16000,
        container="MP3",
        codec="MPEG_LAYER_III",
        compression_level=0.75,
        turns=(
            Turn(channel=AGENT, voice=DELIVERY_AGENT, text="Parcel service, you are speaking with Tom."),
            Turn(
                channel=CUSTOMER,
                voice=DELIVERY_SAD,
                text="Hello. My parcel has not come. It is a present for my mother. Her birthday is tomorrow.",
            ),
            Turn(
                channel=AGENT,
                voice=DELIVERY_AGENT,
                text="Oh dear. One moment please, I will ask the driver.",
                pause_seconds=0.9,
            ),
            Turn(
                channel=AGENT,
                voice=DELIVERY_AGENT,
                text="Good news. It is on the van, and it will be with you this afternoon.",
                pause_seconds=3.5,
            ),
            Turn(
                channel=CUSTOMER,
                voice=DELIVERY_HAPPY,
                text="Oh, that is wonderful! Thank you so much! You have saved the party!",
                pause_seconds=0.3,
            ),
        ),
    ),
    Call(
        file_name="call-003-cancellation.ogg",
        sample_rate_hz=16000,
        container="OGG",
        codec="OPUS",
        compression_level=0.97,
        turns=(
            Turn(channel=AGENT, voice=GERMAN_AGENT, text="Guten Tag, Kundendienst, was kann ich für Sie tun?"),
            Turn(
                channel=CUSTOMER,
                voice=GERMAN_CALM,
                text="Guten Tag. Ich möchte meinen Vertrag zum Ende des Monats kündigen.",
            ),
            Turn(
                channel=AGENT,
                voice=GERMAN_AGENT,
                text="Das tut mir leid. Ihr Vertrag läuft leider noch bis zum nächsten Sommer.",
            ),
            Turn(
                channel=CUSTOMER,
                voice=GERMAN_ANGRY,
                text="Das kann doch nicht wahr sein! Mir wurde am Telefon etwas ganz anderes gesagt!",
                pause_seconds=0.3,
            ),
            Turn(
                channel=AGENT,
                voice=GERMAN_AGENT,
                text="Ich verstehe. Ich verbinde Sie mit meiner Kollegin.",
                pause_seconds=1.2,
            ),
        ),
    ),
    Call(
        file_name="call-004-refund.flac",
        sample_rate_hz=8000,
        container="FLAC",
        codec="PCM_16",
        turns=(
            Turn(channel=AGENT, voice=REFUND_AGENT, text="Thank you for waiting. What has happened?"),
            Turn(
                channel=CUSTOMER,
                voice=REFUND_WORRIED,
                text="Someone has used my card, and I do not know what to do. All my savings are in that account.",
            ),
            Turn(
                channel=AGENT,
                voice=REFUND_AGENT,
                text="I have blocked the card. You will get all of it back.",
                pause_seconds=0.8,
            ),
            Turn(channel=CUSTOMER, voice=REFUND_GLAD, text="Really? Oh, what a relief! Thank you!"),
        ),
    ),
    Call(
        file_name="call-005-voicemail.wav",
        sample_rate_hz=16000,
        container="WAV",
        codec="PCM_16",
        channels=1,
        telephone=False,
        turns=(
            Turn(
                channel=0,
                voice=VOICEMAIL,
                text="Hello, this is Ruth. I am calling about the flat.",
            ),
            Turn(
                channel=0,
                voice=VOICEMAIL,
                text="It seems we were too late again. Please call me back when you can.",
                pause_seconds=1.2,
            ),
        ),
    ),
    Call(
        file_name="call-006-booking.ogg",
        sample_rate_hz=16000,
        container="OGG",
        codec="VORBIS",
        compression_level=0.9,
        turns=(
            Turn(channel=AGENT, voice=MANDARIN_AGENT, text="您好,这里是订票中心,请问有什么可以帮您?"),
            Turn(channel=CUSTOMER, voice=MANDARIN_GLAD, text="您好,我想订两张去上海的票,明天早上的。"),
            Turn(channel=AGENT, voice=MANDARIN_AGENT, text="好的,靠窗的座位,已经为您订好了。", pause_seconds=1.6),
            Turn(channel=CUSTOMER, voice=MANDARIN_GLAD, text="太好了,非常感谢!"),
        ),
    ),
)


def speak(turn: Turn, sample_rate_hz: int) -> Samples:
    """Reads a turn aloud: (samples,) in [-1, 1] at the rate asked for."""
    with tempfile.TemporaryDirectory() as scratch:
        spoken = Path(scratch) / "turn.wav"
        voice = turn.voice
        subprocess.run(
            [
                *("espeak-ng", "-v", voice.name, "-p", str(voice.pitch), "-s", str(voice.rate)),
                *("-a", str(voice.loudness), "-w", str(spoken), turn.text),
            ],
            check=True,
        )
        samples, spoken_rate_hz = soundfile.read(spoken, dtype="float64")
    resampled: Samples = soxr.resample(samples, spoken_rate_hz, sample_rate_hz)
    return resampled * 0.6


def through_the_line(samples: Samples, sample_rate_hz: int) -> Samples:
    """Keeps only the telephone band, with an edge of 100 Hz on either side so that it does not ring."""
    frequencies_hz = np.fft.rfftfreq(len(samples), 1 / sample_rate_hz)
    low_hz, high_hz = LINE_BAND_HZ
    gain = np.clip((frequencies_hz - low_hz) / 100 + 1, 0, 1) * np.clip((high_hz - frequencies_hz) / 100 + 1, 0, 1)
    return np.fft.irfft(np.fft.rfft(samples) * gain, len(samples))


def mix(call: Call) -> Samples:
    """The whole call, (samples, channels): one turn after another, each on its own channel, over line noise."""
    rate_hz = call.sample_rate_hz
    turns = [(turn, speak(turn, rate_hz)) for turn in call.turns]
    silence_seconds = sum(turn.pause_seconds for turn, _ in turns) + 2 * LEAD_SECONDS
    length = sum(len(spoken) for _, spoken in turns) + round(silence_seconds * rate_hz)
    mixed = np.zeros((length, call.channels))
    position = round(LEAD_SECONDS * rate_hz)
    for turn, spoken in turns:
        position += round(turn.pause_seconds * rate_hz)
        mixed[position : position + len(spoken), turn.channel] += spoken
        position += len(spoken)
    # Seeded by the name, so that every call has a noise of its own and a new run changes nothing.
    noise = np.random.default_rng(list(call.file_name.encode())).standard_normal(mixed.shape)
    mixed += noise * 10 ** (LINE_NOISE_DBFS / 20)
    if call.telephone:
        mixed = np.stack([through_the_line(mixed[:, c], rate_hz) for c in range(call.channels)], axis=1)
    return np.clip(mixed, -0.99, 0.99)


def write(call: Call, directory: Path) -> Path:
    """Writes a call into the directory and gives the file's path."""
    path = directory / call.file_name
    soundfile.write(
        path,
        mix(call),
        call.sample_rate_hz,
        format=call.container,
        subtype=call.codec,
        compression_level=call.compression_level,
    )
    return path


def same_samples(left: Path, right: Path) -> bool:
    """True if both files exist and decode to the same samples."""
    if not (left.exists() and right.exists()):
        return False
    return np.array_equal(soundfile.read(left)[0], soundfile.read(right)[0])


def main() -> int:
    """Makes every call; the exit code."""
    if shutil.which("espeak-ng") is None:
        print("espeak-ng is not installed; on Debian: apt-get install -y espeak-ng", file=sys.stderr)
        return 1
    CALLS_DIR.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for call in CALLS:
            made, kept = write(call, Path(scratch)), CALLS_DIR / call.file_name
            changed = not same_samples(made, kept)
            if changed:
                shutil.copyfile(made, kept)
            seconds = soundfile.info(kept).duration
            print(
                f"{kept.name:28} {seconds:5.1f} s {kept.stat().st_size:8,} bytes{'' if changed else '  unchanged'}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
