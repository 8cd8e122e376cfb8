"""Publishers: two generations of ffmpeg, and GStreamer, with a picture and sound that can be
recognized.

The clip of ffmpeg: moving test pattern, four boxes of known colour, a box that flashes white for
three frames at the beginning of each second; on the left channel a steady tone, on the right one
a beep at the beginning of each second.
"""

import asyncio
import shutil
import signal
import sys

from server import LOGS, Failure

TONE_HERTZ = 440
BEEP_HERTZ = 1500
# Colour by position, each in fractions of the picture.
BOXES = {
    (0.125, 0.15): (255, 0, 0),
    (0.375, 0.15): (0, 255, 0),
    (0.625, 0.15): (0, 0, 255),
    (0.875, 0.15): (255, 255, 0),
}
FLASH = (0.5, 0.9)
# The seven bars of GStreamer's SMPTE pattern, top part.
GST_BARS = {
    (1 / 14, 0.2): (255, 255, 255),
    (3 / 14, 0.2): (255, 255, 0),
    (5 / 14, 0.2): (0, 255, 255),
    (7 / 14, 0.2): (0, 255, 0),
    (9 / 14, 0.2): (255, 0, 255),
    (11 / 14, 0.2): (255, 0, 0),
    (13 / 14, 0.2): (0, 0, 255),
}


def debian_ffmpeg():
    return "/usr/bin/ffmpeg"


def newer_ffmpeg():
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()


# What encoders are told: no B-frames unless said otherwise.
ENCODERS = {
    "baseline": "-preset veryfast -tune zerolatency -profile:v baseline -bf 0 -g 60",
    # As OBS with B-frames switched off: High profile, look-ahead, long GOP, constant bitrate.
    "obs": "-preset veryfast -profile:v high -bf 0 -g 250 -keyint_min 25 "
    "-b:v 2500k -maxrate 2500k -bufsize 2500k -x264-params nal-hrd=cbr",
    "obs-b-frames": "-preset veryfast -profile:v high -bf 2 -g 250",
    # OBS untouched.
    "obs-defaults": "-preset veryfast -profile:v high -bf 3 -g 250 -keyint_min 25 "
    "-b:v 2500k -maxrate 2500k -bufsize 2500k -x264-params nal-hrd=cbr:b-pyramid=normal",
}


def ffmpeg_arguments(
    binary, url, encoder="baseline", tone=TONE_HERTZ, size=(640, 360), aac="48000", seconds=None
):
    width, height = size
    box_width = width // 4
    boxes = [
        f"drawbox=x={index * box_width}:y=0:w={box_width}:h={height * 3 // 10}"
        f":color=0x{red:02x}{green:02x}{blue:02x}:t=fill"
        for index, (red, green, blue) in enumerate(BOXES.values())
    ]
    flash = f"drawbox=x=0:y={height * 8 // 10}:w={width}:h={height // 5}"
    boxes += [
        f"{flash}:color=black:t=fill",
        rf"{flash}:color=white:t=fill:enable='lt(mod(n\,30)\,3)'",
    ]
    video = f"testsrc2=size={width}x{height}:rate=30,{','.join(boxes)}"
    audio = (
        f"aevalsrc='0.3*sin(2*PI*{tone}*t)"
        rf"|0.6*sin(2*PI*{BEEP_HERTZ}*t)*lt(mod(t\,1)\,0.1)':s={aac}:c=stereo"
    )
    return [
        binary, "-nostdin", "-hide_banner", "-loglevel", "warning", "-re",
        "-f", "lavfi", "-i", video, "-re", "-f", "lavfi", "-i", audio,
        "-c:v", "libx264", *ENCODERS[encoder].split(), "-pix_fmt", "yuv420p",
        "-c:a", "aac", "-b:a", "160k", *(["-t", str(seconds)] if seconds else []), "-f", "flv", url,
    ]  # fmt: skip


# x264enc for low delay; without any word it looks 40 frames ahead and makes High profile.
GST_X264 = (
    "tune=zerolatency speed-preset=veryfast key-int-max=60 bitrate=1500 ! video/x-h264,profile=baseline"
)


def gstreamer_arguments(url, x264=GST_X264):
    pipeline = (
        "flvmux name=mux streamable=true ! rtmp2sink location={url} "
        "videotestsrc is-live=true pattern=smpte ! video/x-raw,width=640,height=360,framerate=30/1"
        " ! x264enc {x264} ! h264parse ! queue ! mux. "
        "audiotestsrc is-live=true wave=sine freq={tone} volume=0.3"
        " ! audio/x-raw,rate=48000,channels=2 ! audioconvert ! {aac} ! aacparse ! queue ! mux."
    )
    # Which AAC encoder there is differs; any will do.
    aac = next((name for name in ("voaacenc", "avenc_aac", "fdkaacenc") if has_element(name)), None)
    if aac is None:
        raise Failure("GStreamer has no AAC encoder")
    words = pipeline.format(url=url, tone=TONE_HERTZ, aac=aac, x264=x264).split()
    return ["gst-launch-1.0", "-q", *words]


def has_element(name):
    import subprocess

    command = ["gst-inspect-1.0", "--exists", name]
    return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode == 0


class Publisher:
    """A publisher's process; use as `async with`."""

    def __init__(self, name, arguments):
        self.name = name
        self.arguments = arguments
        self.process = None

    async def __aenter__(self):
        if shutil.which(self.arguments[0]) is None:
            raise Failure(f"{self.arguments[0]} is not installed")
        LOGS.mkdir(parents=True, exist_ok=True)
        with open(LOGS / f"{self.name}.log", "ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.arguments, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self

    async def __aexit__(self, *_):
        await self.stop(signal.SIGTERM)

    def check_alive(self):
        if self.process is None or self.process.returncode is not None:
            raise Failure(f"publisher {self.name} ended: see {LOGS / self.name}.log")

    async def stop(self, how):
        process, self.process = self.process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(how)
        try:
            await asyncio.wait_for(process.wait(), 5)
        except asyncio.TimeoutError:
            print(f"publisher {self.name} did not stop, killed", file=sys.stderr)
            process.kill()
            await process.wait()


def ffmpeg(server, room, binary=None, **options):
    arguments = ffmpeg_arguments(binary or debian_ffmpeg(), server.publish_url(room), **options)
    return Publisher(f"ffmpeg-{room}", arguments)


def gstreamer(server, room, **options):
    return Publisher(f"gstreamer-{room}", gstreamer_arguments(server.publish_url(room), **options))
