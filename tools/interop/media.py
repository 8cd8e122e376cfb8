"""The clips of the media matrix: what they are, and how ffmpeg makes them.

Each has a moving picture with four boxes of known colour, its frame number in black and white
blocks, a flash at the beginning of each second; a steady tone on the left, a beep with each flash
on the right (both on the one channel of mono). Clips lie in target/media and are made once.
"""

import dataclasses
import hashlib
import json
import subprocess

import av
import numpy

import publishers
from aiortc_viewer import AUDIO_RATE, nearest_differences
from counter import COUNTER_BITS, COUNTER_ROWS, read_counter
from server import ROOT, Failure

CACHE = ROOT / "target/media"
CLIP_SECONDS = 20
FPS = 30
MAKE_SECONDS_MAX = 600


@dataclasses.dataclass(frozen=True)
class Clip:
    """One row of the matrix."""

    name: str
    video: str | None = "-c:v libx264 -preset veryfast -profile:v baseline -bf 0 -g 60"
    pixels: str = "yuv420p"
    audio: str | None = "-c:a aac -b:a 128k"
    rate: int = 48_000
    layout: str = "stereo"
    size: tuple = (640, 360)
    interlaced: bool = False
    # Whether its picture has to be transcoded for a browser.
    transcoded: bool = False
    # Plain FLV carries it, so that Debian's ffmpeg can publish it. Else Enhanced RTMP.
    legacy: bool = True
    # Debian's ffmpeg is the only one that makes or carries it.
    debian_only: bool = False
    # In the matrix that always runs.
    small: bool = False
    # Audio made by tools/interop/he_aac.rs instead of ffmpeg: its object type.
    he_aac: str | None = None

    def publishers(self):
        both = [("ffmpeg5.1", publishers.debian_ffmpeg), ("ffmpeg-new", publishers.newer_ffmpeg)]
        if self.debian_only:
            return both[:1]
        # The old one stops reading a whole file while a piece of its sound lasts (128 ms at 8 kHz).
        return both if self.legacy and not self.long_pieces else both[1:]

    @property
    def long_pieces(self):
        return bool(self.audio) and self.rate == 8_000


# What OBS sends when nobody touched its settings: x264 veryfast, High, three B-frames in a
# pyramid, 250 frames between keyframes, constant bitrate.
OBS = (
    "-c:v libx264 -preset veryfast -profile:v high -bf 3 -g 250 -keyint_min 25 -b:v {0}k -maxrate {0}k"
    " -bufsize {0}k -x264-params nal-hrd=cbr:b-pyramid=normal"
)
X264 = "-c:v libx264 -preset veryfast"
HD, FULL_HD = (1280, 720), (1920, 1080)


def obs(name, bitrate, size, rate=48_000, small=False):
    video, audio = OBS.format(bitrate), "-c:a aac -b:a 160k"
    return Clip(name, video, size=size, audio=audio, rate=rate, transcoded=True, small=small)


VIDEO = [
    obs("OBS defaults 720p30 2500k", 2500, HD, small=True),
    obs("OBS defaults 720p30 2500k 44.1 kHz", 2500, HD, rate=44_100, small=True),
    obs("OBS defaults 720p30 6000k", 6000, HD),
    obs("OBS defaults 1080p30 6000k", 6000, FULL_HD),
    Clip("H.264 Constrained Baseline"),
    Clip("H.264 Main", f"{X264} -profile:v main -bf 0 -g 60"),
    Clip("H.264 High", f"{X264} -profile:v high -bf 0 -g 60"),
    Clip("H.264 High, 4 slices", f"{X264} -profile:v high -bf 0 -g 60 -slices 4"),
    Clip("H.264 Main, B-frames", f"{X264} -profile:v main -bf 2 -g 60", transcoded=True),
    Clip("H.264 High, B-frames", f"{X264} -bf 2 -g 60 -x264-params b-pyramid=none", transcoded=True),
    Clip(
        "H.264 High, B-pyramid, GOP 250", f"{X264} -bf 3 -g 250 -x264-params b-pyramid=normal",
        transcoded=True,
    ),
    Clip(
        "H.264 High, open GOP", f"{X264} -bf 3 -g 60 -x264-params open-gop=1", transcoded=True,
    ),
    Clip(
        # As it is for the first 5 s without a keyframe.
        "H.264 High, intra refresh", f"{X264} -bf 0 -g 60 -x264-params intra-refresh=1",
        transcoded=True,
    ),
    Clip(
        "H.264 High interlaced", f"{X264} -bf 0 -g 60 -flags +ilme+ildct -x264-params tff=1",
        interlaced=True, transcoded=True, small=True,
    ),
    Clip(
        "H.264 High interlaced, B-frames",
        f"{X264} -bf 2 -g 60 -flags +ilme+ildct -x264-params tff=1", interlaced=True, transcoded=True,
    ),
    Clip("H.264 High 4:2:2", f"{X264} -bf 0 -g 60", pixels="yuv422p", transcoded=True),
    Clip("H.264 High 4:4:4", f"{X264} -bf 0 -g 60", pixels="yuv444p", transcoded=True),
    Clip("H.264 High 10", f"{X264} -bf 2 -g 60", pixels="yuv420p10le", transcoded=True),
    Clip(
        "HEVC Main", "-c:v libx265 -preset superfast -g 60 -x265-params log-level=error",
        transcoded=True, legacy=False, small=True,
    ),
    Clip(
        "HEVC Main 10", "-c:v libx265 -preset superfast -g 60 -x265-params log-level=error",
        pixels="yuv420p10le", transcoded=True, legacy=False,
    ),
    Clip("AV1", "-c:v libsvtav1 -preset 10 -g 60", transcoded=True, legacy=False, small=True),
    Clip(
        "AV1 10-bit", "-c:v libsvtav1 -preset 10 -g 60", pixels="yuv420p10le", transcoded=True,
        legacy=False,
    ),
    Clip(
        "VP9", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 1500k -g 60", transcoded=True,
        legacy=False,
    ),
    Clip("Sorenson H.263", "-c:v flv -b:v 2000k -g 60", transcoded=True),
    Clip("Screen Video", "-c:v flashsv -g 60", pixels="bgr24", transcoded=True),
    Clip("Screen Video 2", "-c:v flashsv2 -g 60", pixels="bgr24", transcoded=True),
    Clip("no picture", video=None, small=True),
    Clip("no sound", audio=None),
]  # fmt: skip


def aac(rate, layout):
    bits = {"mono": 64, "stereo": 128}.get(layout, 320) * min(rate, 48_000) // 48_000
    kilohertz = f"{rate / 1000:g}"
    return Clip(f"AAC-LC {kilohertz} kHz {layout}", audio=f"-c:a aac -b:a {bits}k", rate=rate, layout=layout)


AUDIO = [
    *(aac(rate, "mono") for rate in (8_000, 16_000, 22_050, 44_100, 48_000, 96_000)),
    *(aac(rate, "stereo") for rate in (8_000, 16_000, 22_050, 44_100, 48_000, 96_000)),
    *(aac(rate, "5.1") for rate in (22_050, 44_100, 48_000, 96_000)),
    *(aac(rate, "7.1") for rate in (44_100, 48_000)),
    aac(48_000, "7.1(wide)"),
    Clip("HE-AAC v1 44.1 kHz stereo", rate=44_100, he_aac="v1"),
    Clip("HE-AAC v1 48 kHz stereo", he_aac="v1"),
    Clip("HE-AAC v1 48 kHz stereo, implicit", he_aac="v1-implicit"),
    Clip("HE-AAC v2 44.1 kHz", rate=44_100, he_aac="v2"),
    Clip("HE-AAC v2 48 kHz, implicit", he_aac="v2-implicit"),
    Clip("MP3 44.1 kHz stereo", audio="-c:a libmp3lame -b:a 160k", rate=44_100, small=True),
    Clip("MP3 44.1 kHz mono", audio="-c:a libmp3lame -b:a 96k", rate=44_100, layout="mono"),
    Clip("MP3 22.05 kHz stereo (MPEG-2)", audio="-c:a libmp3lame -b:a 96k", rate=22_050),
    Clip("MP3 11.025 kHz mono (MPEG-2.5)", audio="-c:a libmp3lame -b:a 48k", rate=11_025, layout="mono"),
    Clip("G.711 A-law", audio="-c:a pcm_alaw", rate=8_000, layout="mono"),
    Clip("G.711 µ-law", audio="-c:a pcm_mulaw", rate=8_000, layout="mono"),
    Clip("PCM 16 bit 44.1 kHz stereo", audio="-c:a pcm_s16le", rate=44_100),
    Clip("Speex", audio="-c:a libspeex -b:a 28k", rate=16_000, layout="mono", debian_only=True),
    Clip("Nellymoser 16 kHz", audio="-c:a nellymoser", rate=16_000, layout="mono"),
    Clip("Nellymoser 22.05 kHz", audio="-c:a nellymoser", rate=22_050, layout="mono"),
    Clip("Nellymoser 8 kHz", audio="-c:a nellymoser", rate=8_000, layout="mono"),
    Clip("Opus 48 kHz stereo", audio="-c:a libopus -b:a 128k", legacy=False, small=True),
    Clip("Opus 48 kHz mono", audio="-c:a libopus -b:a 64k", layout="mono", legacy=False),
    Clip("Opus 48 kHz 5.1", audio="-c:a libopus -b:a 256k", layout="5.1", legacy=False),
    Clip("FLAC 48 kHz stereo", audio="-c:a flac", legacy=False),
    Clip("FLAC 44.1 kHz mono", audio="-c:a flac", rate=44_100, layout="mono", legacy=False),
    Clip("AC-3 48 kHz stereo", audio="-c:a ac3 -b:a 192k", legacy=False),
    Clip("AC-3 48 kHz 5.1", audio="-c:a ac3 -b:a 448k", layout="5.1", legacy=False),
    Clip("E-AC-3 48 kHz stereo", audio="-c:a eac3 -b:a 192k", legacy=False),
    Clip("E-AC-3 48 kHz 5.1", audio="-c:a eac3 -b:a 384k", layout="5.1", legacy=False),
]

# Named for the reader of the table: what no encoder on this machine makes.
NOT_COVERED = {
    "VP6": "no free encoder exists",
    "VP8": "no ffmpeg puts it into RTMP",
}
CLIPS = VIDEO + AUDIO


# -- making them --


def picture_filter(clip):
    """lavfi source of the picture. The number is drawn after interlacing: on both fields alike."""
    width, height = clip.size
    if clip.interlaced:
        parts = [f"testsrc2=size={width}x{height}:rate={2 * FPS}", "interlace=scan=tff"]
    else:
        parts = [f"testsrc2=size={width}x{height}:rate={FPS}"]

    def box(x, y, w, h, colour, enable=None):
        when = f":enable='{enable}'".replace(",", r"\,") if enable else ""
        parts.append(f"drawbox=x={x}:y={y}:w={w}:h={h}:color={colour}:t=fill{when}")

    for index, (red, green, blue) in enumerate(publishers.BOXES.values()):
        colour = f"0x{red:02x}{green:02x}{blue:02x}"
        box(index * (width // 4), 0, width // 4, height * 3 // 10, colour)
    block, row_height = width // COUNTER_BITS, height // 20
    for row, bit_is_white in zip(COUNTER_ROWS, ("", "1-"), strict=True):
        top = round(row * height) - row_height // 2
        box(0, top, width, row_height, "black")
        for bit in range(COUNTER_BITS):
            white = f"{bit_is_white}mod(floor(n/{2**bit}),2)"
            box(bit * block, top, block, row_height, "white", white)
    box(0, height * 8 // 10, width, height // 5, "black")
    box(0, height * 8 // 10, width, height // 5, "white", f"lt(mod(n,{FPS}),3)")
    return ",".join(parts)


def sound_filter(clip):
    tone = f"sin(2*PI*{publishers.TONE_HERTZ}*t)"
    beep = rf"sin(2*PI*{publishers.BEEP_HERTZ}*t)*lt(mod(t\,1)\,0.1)"
    if clip.layout == "mono":
        channels = [f"0.1*{tone}+0.6*{beep}"]
    else:
        channels = [f"0.3*{tone}", f"0.6*{beep}"]
        channels += ["0"] * ({"stereo": 2, "5.1": 6, "7.1": 8, "7.1(wide)": 8}[clip.layout] - 2)
    return f"aevalsrc='{'|'.join(channels)}':s={clip.rate}:c={clip.layout}"


def make_arguments(clip):
    """ffmpeg's arguments without the output."""
    arguments = ["-nostdin", "-hide_banner", "-loglevel", "error", "-y"]
    if clip.video:
        arguments += ["-f", "lavfi", "-i", picture_filter(clip)]
    if clip.audio and not clip.he_aac:
        arguments += ["-f", "lavfi", "-i", sound_filter(clip)]
    elif clip.he_aac:
        arguments += ["-f", "flv", "-i", str(he_aac(clip))]
    if clip.video:
        arguments += [*clip.video.split(), "-pix_fmt", clip.pixels]
    if clip.audio:
        arguments += ["-c:a", "copy"] if clip.he_aac else clip.audio.split()
    return [*arguments, "-t", str(CLIP_SECONDS)]


def he_aac(clip):
    """Sound as FLV by the fdk-aac encoder, which Debian's ffmpeg lacks."""
    path = CACHE / f"he-aac-{clip.he_aac}-{clip.rate}.flv"
    if path.exists():
        return path
    pcm = subprocess.run(
        [publishers.debian_ffmpeg(), "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i",
         sound_filter(clip), "-t", str(CLIP_SECONDS), "-f", "s16le", "-"],
        check=True, capture_output=True, timeout=MAKE_SECONDS_MAX,
    ).stdout  # fmt: skip
    command = ["cargo", "run", "--quiet", "--release", "--locked", "--example", "he_aac"]
    made = subprocess.run(
        [*command, "--", clip.he_aac, str(clip.rate)], check=False, capture_output=True, cwd=ROOT,
        input=pcm, timeout=MAKE_SECONDS_MAX,
    )  # fmt: skip
    if made.returncode != 0:
        raise Failure(f"examples/he_aac: {made.stderr.decode()[-300:]}")
    path.write_bytes(made.stdout)
    return path


def make(clip):
    """The clip's file, made if it is not there, and what its own decoder sees in it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    binary = publishers.debian_ffmpeg() if clip.legacy else publishers.newer_ffmpeg()
    arguments = make_arguments(clip)
    digest = hashlib.sha256("\n".join(arguments).encode()).hexdigest()[:12]
    path = CACHE / f"{digest}.{'flv' if clip.legacy else 'mkv'}"
    about = path.with_suffix(".json")
    if not about.exists():
        command = [binary, *arguments, str(path)]
        made = subprocess.run(command, check=False, capture_output=True, timeout=MAKE_SECONDS_MAX)
        if made.returncode != 0:
            raise Failure(f"ffmpeg cannot make {clip.name}: {made.stderr.decode().strip()[-300:]}")
        facts = {"name": clip.name, **look_at(path, clip)}
        about.write_text(json.dumps(facts) + "\n")
    return path, json.loads(about.read_text())


def look_at(path, clip):
    """Decodes the file: the frames must be those that went in, and the codec's own shift of sound
    against picture is no fault of who carries it."""
    numbers, flashes, beeps, loud_at, bright = [], [], [], -1e9, False
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="s16", layout="stereo", rate=AUDIO_RATE)
        for frame in container.decode():
            if isinstance(frame, av.VideoFrame):
                picture = frame.to_ndarray(format="gray")
                numbers.append(read_counter(picture))
                was, bright = bright, picture[picture.shape[0] * 9 // 10, picture.shape[1] // 2] > 128
                if bright and not was:
                    flashes.append(frame.time * 1000)
                continue
            began = frame.time
            for part in resampler.resample(frame):
                samples = numpy.abs(part.to_ndarray().reshape(-1, 2)[:, 1].astype(int)) / 32768
                loud = numpy.nonzero(samples > 0.15)[0]
                if len(loud) == 0:
                    began += len(samples) / AUDIO_RATE
                    continue
                if (first := began + int(loud[0]) / AUDIO_RATE) - loud_at > 0.3:
                    beeps.append(first * 1000)
                loud_at = began + int(loud[-1]) / AUDIO_RATE
                began += len(samples) / AUDIO_RATE
    if clip.video and numbers != list(range(CLIP_SECONDS * FPS)):
        raise Failure(f"{clip.name}: its frames are {numbers[:40]}…")
    with av.open(str(path)) as container:
        packets = container.demux(video=0) if clip.video else []
        sent = [float(packet.pts * packet.time_base) for packet in packets if packet.size]
    order = [round((pts - min(sent)) * FPS) for pts in sent]
    skews = nearest_differences(flashes, beeps)
    # `order`: number of each frame as they are sent.
    return {"skew_ms": round(float(numpy.median(skews)), 1) if skews else 0.0, "order": order}


def publish_arguments(clip, path, binary, url):
    arguments = [binary, "-nostdin", "-hide_banner", "-loglevel", "warning"]
    pace, enhanced = ["-re"], []
    if binary != publishers.debian_ffmpeg():
        # The newer one sends the first half second at once unless told.
        pace = ["-readrate", "1", "-readrate_initial_burst", "0.001"]
        enhanced = ["-rtmp_enhanced_codecs", "hvc1,av01,vp09"]
    source, output = [*pace, "-i", str(path)], ["-map", "0"]
    if clip.long_pieces and clip.video:
        # Read and sent apart, or four frames are held back for each piece of sound. What encodes
        # live sends each when it is ready.
        source += source
        output = ["-map", "0:v", "-map", "1:a", "-max_interleave_delta", "1"]
    return [*arguments, *source, *output, "-c", "copy", "-f", "flv", *enhanced, url]
