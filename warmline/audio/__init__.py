"""From a file's bytes to windows of 16 kHz speech; read call.py first.

call.py             a call, opened: what it is, and its windows
decoding.py         which decoder reads a file, by its content
soundfile_decoder.py, pyav_decoder.py
                    the two decoders
truncation.py       what a container says of its own length
resampling.py       to 16 kHz, in slabs of fixed size
edges.py            a channel from its first sound to its last
speech.py           silero-vad: how likely is speech
tones.py            telephone keys and steady tones, which are none
segments.py         from probabilities to segments
windows.py          from segments to windows
sliding.py          or to a window that slides
levels.py           how loud it is, and whether peaks are cut off

Everything streams: what is held at any moment is some seconds of audio, whatever the call's length.
"""
