"""GStreamer's webrtcbin as a viewer: another ICE (libnice), DTLS (OpenSSL) and SRTP (libsrtp) than the
browser's, and another SRTP profile."""

import asyncio
import json
import pathlib

import publishers
from checks import FRAMES_PER_SECOND, FRAMES_SHARE_MIN, check_colours, check_tone, require
from server import BINARY, LOGS, Failure

# Not the tests' own: it has the GObject bindings.
PYTHON = "/usr/bin/python3"
PROGRAM = pathlib.Path(__file__).with_name("gst_viewer.py")
SECONDS = 6
# Longer than the server keeps a viewer of which it hears nothing: libnice sends no checks meanwhile.
LONG_SECONDS = 45
# From joining to leaving, beside what it watches.
END_SECONDS = 39
# The root mean square of the tone, of amplitude 0.3, give or take what codecs do to it.
LEVELS = (0.17, 0.25)


async def certificate(folder):
    """A file with a certificate of ECDSA P-256 and its key."""
    process = await asyncio.create_subprocess_exec(
        str(BINARY), "cert", "--out", str(folder), "--force", stdout=asyncio.subprocess.DEVNULL
    )
    require(await process.wait() == 0, "no certificate could be made")
    both = folder / "both.pem"
    both.write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())
    return both


async def look(server, room, boxes, seconds):
    """What webrtcbin sees and hears."""
    pem = await certificate(LOGS.parent / "gst-certificate")
    places = [f"{x:.4f},{y:.4f}" for x, y in boxes]
    url = server.url(f"{room}/whep")
    command = [PYTHON, str(PROGRAM), url, str(seconds), str(pem), *places]
    with open(LOGS / f"gst-viewer-{room}.log", "wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log
        )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), seconds + END_SECONDS)
    except asyncio.TimeoutError:
        raise Failure(f"webrtcbin does not end: see {LOGS}") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        said = (LOGS / f"gst-viewer-{room}.log").read_text(errors="replace").strip()
        raise Failure(f"webrtcbin: {said[-300:]}")
    return json.loads(output)


def judge(figures, boxes, seconds):
    least = FRAMES_SHARE_MIN * FRAMES_PER_SECOND * seconds
    require(figures["frames"] >= least, f"{figures['frames']} frames in {seconds} s")
    require(figures["step_ms_min"] > 0, f"time of the frames goes backward: {figures}")
    require(figures["step_ms_max"] < 100, f"frames are missing: {figures}")
    require(figures["sound_seconds"] >= 0.9 * seconds, f"sound is missing: {figures}")
    check_colours(boxes, [tuple(colour) for colour in figures.pop("colours")])
    check_tone(figures["tone_hertz"], publishers.TONE_HERTZ)
    low, high = LEVELS
    require(low <= figures["level"] <= high, f"the tone is too loud or too quiet: {figures}")
    # The one that it offers; browsers and aiortc agree with us on AES-GCM.
    require(figures["srtp"] == "AES128_CM_SHA1_80", f"another SRTP profile: {figures}")
    return figures


async def play(world, seconds=SECONDS):
    room = world.room("webrtcbin")
    async with publishers.ffmpeg(world.server, room) as publisher:
        await world.live(publisher, room)
        figures = await look(world.server, room, publishers.BOXES, seconds)
        return judge(figures, publishers.BOXES, seconds)


async def play_long(world):
    return await play(world, LONG_SECONDS)


CASES = {"ffmpeg5.1 to gstreamer's webrtcbin by whep": play}
FULL_CASES = {f"gstreamer's webrtcbin for {LONG_SECONDS} s": play_long}
