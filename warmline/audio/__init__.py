"""From a file's bytes to windows of 16 kHz speech; read call.py first.

call.py             a call, opened: what it is, and its windows
decoding.py         which decoder reads a file, by its content
soundfile_decoder.py, pyav_decoder.py
                    the two decoders
truncation.py       what a container says of its own length
resampling.py       to 16 kHz, in slabs of fixed size
speech.py           silero-vad: how likely is speech
segments.py         from probabilities to segments
windows.py          from segments to windows

Everything streams: what is held at any moment is some seconds of audio, whatever the call's length.
"""
