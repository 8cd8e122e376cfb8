#!/usr/bin/env python3
"""Interop: real encoders publish to the release binary, real WebRTC stacks play.

    run.py                 all cases
    run.py --only TEXT     those whose name contains TEXT (may be repeated)
    run.py --full          also the whole media matrix, OBS itself, and a long look of GStreamer's
    run.py --list          their names
    run.py --json FILE     also writes the figures there

Prints a line for each case; exit code 0 only if all hold. All traffic stays on loopback.
"""

import argparse
import asyncio
import json
import os
import pathlib
import shutil
import signal
import socket
import sys
import time
import traceback

import faults
import gst
import hostile
import matrix
import obs
import publishers
from aiortc_viewer import AiortcViewer
from browser import Browser
from checks import aiortc_plays, page_plays, require
from server import BINARY, LOGS, Failure, Server, free_port, until

CASE_SECONDS_MAX = 90
ADVICE_SECONDS = 20

CASES = {}


def case(name):
    """Registers a case: an async function of the running server and the browser."""

    def register(function):
        CASES[name] = function
        return function

    return register


class World:
    """What the cases share: one server, one browser, and room names that are used once."""

    def __init__(self, server, browser):
        self.server = server
        self.browser = browser
        self.rooms = 0

    def room(self, prefix):
        self.rooms += 1
        return f"{prefix}-{self.rooms}"

    async def page(self, room, query="", **options):
        return await self.browser.open(self.server.url(room + query), **options)

    async def live(self, publisher, room):
        """Waits until the room is live; its publisher must stay."""

        async def is_live():
            publisher.check_alive()
            return await self.server.is_live(room)

        await until(is_live, 15, f"room {room} is live")


# -- every publisher with every viewer --


async def watch(world, room, viewer, boxes=None, tone=publishers.TONE_HERTZ, skew=False):
    stack, how = viewer
    if stack == "chromium":
        query = "?whep&stats=1" if how == "whep" else "?stats=1"
        async with await world.page(room, query) as page:
            return await page_plays(page, boxes=boxes, tone=tone, skew=skew)
    async with AiortcViewer(world.server, room, how) as aiortc:
        return await aiortc_plays(aiortc, boxes=boxes, tone=tone, skew=skew)


def every_pair():
    binaries = {"ffmpeg5.1": publishers.debian_ffmpeg, "ffmpeg-new": publishers.newer_ffmpeg}
    viewers = [("chromium", "ws"), ("chromium", "whep"), ("aiortc", "whep"), ("aiortc", "ws")]
    for name, binary in binaries.items():
        for viewer in viewers:

            async def play(world, binary=binary, viewer=viewer):
                room = world.room("pair")
                async with publishers.ffmpeg(world.server, room, binary()) as publisher:
                    await world.live(publisher, room)
                    return await watch(world, room, viewer)

            CASES[f"{name} to {viewer[0]} by {viewer[1]}"] = play


every_pair()


@case("gstreamer to chromium by ws")
async def gstreamer(world):
    room = world.room("gst")
    async with publishers.gstreamer(world.server, room) as publisher:
        await world.live(publisher, room)
        return await watch(world, room, ("chromium", "ws"), boxes=publishers.GST_BARS)


@case("gstreamer to aiortc by whep")
async def gstreamer_aiortc(world):
    room = world.room("gst")
    async with publishers.gstreamer(world.server, room) as publisher:
        await world.live(publisher, room)
        return await watch(world, room, ("aiortc", "whep"), boxes=publishers.GST_BARS)


@case("gstreamer's x264enc untouched, to chromium")
async def gstreamer_untouched(world):
    room = world.room("gst")
    async with publishers.gstreamer(world.server, room, x264="") as publisher:
        await world.live(publisher, room)
        return await watch(world, room, ("chromium", "ws"), boxes=publishers.GST_BARS)


@case("obs settings without b-frames, 720p, to chromium")
async def obs_without_b_frames(world):
    room = world.room("obs")
    async with publishers.ffmpeg(world.server, room, encoder="obs", size=(1280, 720)) as publisher:
        await world.live(publisher, room)
        return await watch(world, room, ("chromium", "ws"))


@case("obs settings without b-frames, 720p, to aiortc")
async def obs_aiortc(world):
    room = world.room("obs")
    async with publishers.ffmpeg(world.server, room, encoder="obs", size=(1280, 720)) as publisher:
        await world.live(publisher, room)
        return await watch(world, room, ("aiortc", "whep"))


@case("44.1 kHz sound")
async def sample_rate(world):
    room = world.room("rate")
    async with publishers.ffmpeg(world.server, room, aac="44100") as publisher:
        await world.live(publisher, room)
        return await watch(world, room, ("chromium", "whep"))


# -- TLS --


@case("ffmpeg by rtmps")
async def rtmps(world):
    folder = LOGS / "certificate"
    command = [str(BINARY), "cert", "--force", "--out", str(folder)]
    made = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    require(await made.wait() == 0, "rtmpeer cert failed")
    port = free_port(socket.SOCK_STREAM)
    settings = {
        "RTMPEER_TLS__CERTIFICATE": str(folder / "cert.pem"),
        "RTMPEER_TLS__KEY": str(folder / "key.pem"),
        "RTMPEER_RTMPS__LISTEN": f"127.0.0.1:{port}",
    }
    server, figures = Server(cores=1, settings=settings), {}
    secure = World(server, world.browser)
    try:
        await server.start()
        for binary in (publishers.debian_ffmpeg(), publishers.newer_ffmpeg()):
            room = secure.room("rtmps")
            url = f"rtmps://127.0.0.1:{port}/live/{room}"
            arguments = publishers.ffmpeg_arguments(binary, url)
            if binary == publishers.newer_ffmpeg():
                # It checks certificates; Debian's takes any.
                arguments[-1:-1] = ["-ca_file", str(folder / "cert.pem")]
            async with publishers.Publisher(f"ffmpeg-{room}", arguments) as publisher:
                await secure.live(publisher, room)
                # As a renewal does: nobody may notice.
                server.process.send_signal(signal.SIGHUP)
                name = binary.rsplit("/", 1)[1]
                figures[name] = await watch(secure, room, ("chromium", "ws"))
        await server.stop()
        return figures
    finally:
        await server.kill()


# -- sound and picture together --


@case("flash and beep in chromium by ws")
async def skew_chromium(world):
    room = world.room("skew")
    async with publishers.ffmpeg(world.server, room) as publisher:
        await world.live(publisher, room)
        return await watch(world, room, ("chromium", "ws"), skew=True)


@case("flash and beep in chromium by whep")
async def skew_chromium_whep(world):
    room = world.room("skew")
    async with publishers.ffmpeg(world.server, room, aac="44100") as publisher:
        await world.live(publisher, room)
        return await watch(world, room, ("chromium", "whep"), skew=True)


@case("flash and beep in aiortc by sender reports")
async def skew_aiortc(world):
    room = world.room("skew")
    async with publishers.ffmpeg(world.server, room) as publisher:
        await world.live(publisher, room)
        return await watch(world, room, ("aiortc", "whep"), skew=True)


# -- more than one --


@case("two rooms at once")
async def two_rooms(world):
    left, right = world.room("left"), world.room("right")
    first = publishers.ffmpeg(world.server, left)
    second = publishers.ffmpeg(world.server, right, tone=880)
    async with first, second:
        await world.live(first, left)
        await world.live(second, right)
        async with await world.page(left) as a, await world.page(right, "?whep") as b:
            figures = await asyncio.gather(page_plays(a), page_plays(b, tone=880))
            return {"left": figures[0], "right": figures[1]}


@case("a second publisher to a live room is refused")
async def busy(world):
    room = world.room("busy")
    async with publishers.ffmpeg(world.server, room) as first:
        await world.live(first, room)
        async with await world.page(room) as page:
            await page.wait_state("playing")
            async with publishers.ffmpeg(world.server, room) as second:
                process = second.process
                code = await asyncio.wait_for(process.wait(), 15)
                require(code != 0, "the second publisher was not refused")
            first.check_alive()
            return await page_plays(page)


@case("a publish that comes to its end satisfies its encoder")
async def finished(world):
    figures = {}
    for binary in (publishers.debian_ffmpeg(), publishers.newer_ffmpeg()):
        room = world.room("finished")
        async with publishers.ffmpeg(world.server, room, binary, seconds=2) as publisher:
            code = await asyncio.wait_for(publisher.process.wait(), 20)
        log = (LOGS / f"ffmpeg-{room}.log").read_text()
        require(code == 0 and "Broken pipe" not in log, f"exit code {code}: {log.strip()[-100:]}")

        async def ended(room=room):
            return not await world.server.is_live(room)

        await until(ended, 2, f"room {room} has ended")
        figures[binary.rsplit("/", 1)[1]] = code
    return figures


# -- what the page says, and how it recovers --


@case("b-frames are reported on the page and in /v1/rooms")
async def b_frames(world):
    room = world.room("bframes")
    async with publishers.ffmpeg(world.server, room, encoder="obs-b-frames") as publisher:
        await world.live(publisher, room)

        async def reported():
            entry = await world.server.room(room)
            return entry and any("frame" in line.lower() for line in entry["advice"])

        await until(reported, ADVICE_SECONDS, "advice on B-frames in /v1/rooms")
        async with await world.page(room) as page:
            await page.wait_state("playing")
            # Behind a button: nothing lies over a picture that plays.
            await page.wait_text("#advice-toggle", "1", seconds=ADVICE_SECONDS)
            require(not await page.probe("shown", "#advice"), "advice nobody asked for")
            await page.request("click", selector="#advice-toggle")
            text = await page.wait_text("#advice", "B-frame", seconds=5)
            await page.request("press", key="Escape")
            require(not await page.probe("shown", "#advice"), "the advice stays")

            async def bare():
                return await page.probe("overPicture") == []

            await until(bare, 10, "nothing lies over the picture")
        async with await world.browser.open(world.server.url("")) as page:
            await page.wait_text("#rooms li", "B-frame", seconds=10)
        return {"advice": text.strip()}


@case("publisher killed and back: pages wait and go on without a reload")
async def publisher_returns(world):
    room = world.room("back")
    async with await world.page(room) as ws, await world.page(room, "?whep") as whep:
        # The viewers come first.
        await ws.wait_state("offline")
        await whep.wait_state("offline")
        figures = {}
        for turn in ("first", "second"):
            async with publishers.ffmpeg(world.server, room) as publisher:
                await ws.wait_state("playing")
                await whep.wait_state("playing")
                figures[turn] = [await page_plays(page) for page in (ws, whep)]
                await publisher.stop(signal.SIGKILL)
                began = time.monotonic()
                await ws.wait_state("offline", seconds=10)
                figures[f"{turn} offline after s"] = round(time.monotonic() - began, 1)
                await whep.wait_state("offline", seconds=15)
                text = await ws.probe("text", "#message-text")
                require("offline" in text, f"page says {text!r}")
        # A jitter buffer that learned the gap would keep hundreds of milliseconds.
        for how, delay in zip(("ws", "whep"), (f["video_delay_ms"] for f in figures["second"])):
            require(delay < 200, f"{how} plays {delay} ms late after the publisher's return")
        return figures


@case("whep refused while nobody publishes: the page asks again")
async def refused(world):
    server = Server(cores=1, settings={"RTMPEER_WHEP__WHEN_OFFLINE": "reject"})
    try:
        await server.start()
        room = world.room("refused")
        async with await world.browser.open(server.url(f"{room}?whep")) as page:
            await page.wait_state("offline", seconds=10)
            async with publishers.ffmpeg(server, room):
                await page.wait_state("playing", seconds=20)
                before = (await page.probe("counters"))["video"]["framesDecoded"]
                await asyncio.sleep(2)
                frames = (await page.probe("counters"))["video"]["framesDecoded"] - before
                require(frames > 40, f"{frames} frames in 2 s")
        await server.stop()
    finally:
        await server.kill()


async def restart(world, stop):
    room = world.room("restart")
    async with await world.page(room) as ws, await world.page(room, "?whep") as whep:
        async with publishers.ffmpeg(world.server, room) as publisher:
            await world.live(publisher, room)
            await ws.wait_state("playing")
            await whep.wait_state("playing")
            await stop()
            await ws.wait_state("reconnecting", seconds=10)
            await whep.wait_state("reconnecting", seconds=20)
        await world.server.start()
        began = time.monotonic()
        async with publishers.ffmpeg(world.server, room) as publisher:
            await world.live(publisher, room)
            await ws.wait_state("playing", seconds=15)
            await whep.wait_state("playing", seconds=15)
            recovered = round(time.monotonic() - began, 1)
            for page in (ws, whep):
                before = (await page.probe("counters"))["video"]["framesDecoded"]
                await asyncio.sleep(2)
                frames = (await page.probe("counters"))["video"]["framesDecoded"] - before
                require(frames > 40, f"{frames} frames in 2 s after the restart")
            return {"recovered_s": recovered}


@case("server stopped and started: pages recover")
async def server_restarts(world):
    return await restart(world, world.server.stop)


@case("server killed and started: pages recover")
async def server_crashes(world):
    return await restart(world, world.server.kill)


@case("chat reaches everyone, as text")
async def chat(world):
    room = world.room("chat")
    async with await world.page(room, "?name=Ada") as one, await world.page(room, "?name=Bob") as two:
        for page in (one, two):
            await page.wait_state("offline")
            await page.request("press", key="c")
        line = "<b>hello</b> & <img src=x>"
        await one.request("fill", selector="#chat-input", text=line)
        await one.request("click", selector="#chat-form button")
        for page in (one, two):

            async def arrived(page=page):
                return await page.probe("chatLines")

            lines = await until(arrived, 5, "the line of chat")
            require(lines == [f"Ada {line}"], f"chat shows {lines}")


@case("a page that may not make a sound asks for a tap")
async def tap_for_sound(world):
    room = world.room("tap")
    async with publishers.ffmpeg(world.server, room) as publisher:
        await world.live(publisher, room)
        policy = "user-gesture-required"
        async with await world.page(room, policy=policy, width=375, height=667) as page:
            await page.wait_state("playing")

            async def asked():
                return await page.probe("shown", "#big-sound")

            # The browser refuses the sound a moment before or after the first picture.
            await until(asked, 5, "the button that asks for a tap")
            require((await page.probe("snapshot"))["muted"], "the page plays aloud untouched")
            require(await page.probe("overflow") <= 0, "wider than a phone")
            await page.request("screenshot", file=str(LOGS / "phone.png"))
            await page.request("click", selector="#big-sound")
            require(not await page.probe("shown", "#big-sound"), "the button stays")
            return await page_plays(page)


@case("the list of rooms")
async def index(world):
    room = world.room("listed")
    async with publishers.ffmpeg(world.server, room) as publisher:
        await world.live(publisher, room)
        async with await world.browser.open(world.server.url(""), width=375, height=667) as page:
            text = await page.wait_text("#rooms li", room, seconds=10)
            require("640×360" in text, f"the list says {text!r}")
            require(await page.probe("overflow") <= 0, "wider than a phone")
            await page.request("screenshot", file=str(LOGS / "list.png"))
            await publisher.stop(signal.SIGTERM)
            await page.wait_text("#rooms-note", "Nobody", seconds=10)
            require(not await page.request("errors"), "the page complains")
            return {"entry": " ".join(text.split())}


# -- the run --


async def run_case(world, name):
    began = time.monotonic()
    try:
        if world.server.process is None:
            await world.server.start()
        figures = await asyncio.wait_for(CASES[name](world), CASE_SECONDS_MAX)
        world.server.check_alive()
        problem = None
    except asyncio.TimeoutError:
        figures, problem = None, f"not done after {CASE_SECONDS_MAX} s"
    except Failure as failure:
        figures, problem = None, str(failure)
    except Exception:
        figures, problem = None, traceback.format_exc()
    if world.server.process is not None and world.server.process.returncode is not None:
        await world.server.kill()
    seconds = round(time.monotonic() - began, 1)
    verdict = "ok    " if problem is None else "FAILED"
    # Smoothness on a machine that does other things as well is theirs to explain.
    load = round(os.getloadavg()[0], 1)
    about = problem or json.dumps(figures or {})
    print(f"{verdict} {name} ({seconds} s, load {load}) {about}", flush=True)
    return {
        "name": name,
        "ok": problem is None,
        "seconds": seconds,
        "load": load,
        "figures": figures,
        "problem": problem,
    }


async def warm_up(server, browser):
    """A browser's first page costs it seconds of CPU, which no case is about."""
    await server.start()
    async with await browser.open(server.url("warm-up")) as page:
        await page.wait_state("offline", seconds=30)


async def run(names):
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    matrix.prepare([CASES[name] for name in names])
    server, browser = Server(), Browser()
    results = []
    try:
        await browser.start()
        await warm_up(server, browser)
        world = World(server, browser)
        for name in names:
            results.append(await run_case(world, name))
        if server.process is not None:
            await server.stop()
    finally:
        await browser.stop()
        await server.kill()
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="TEXT")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    arguments = parser.parse_args()
    CASES.update(faults.CASES)
    CASES.update(hostile.CASES)
    CASES.update(gst.CASES)
    CASES.update(gst.FULL_CASES if arguments.full else {})
    CASES.update(matrix.cases(arguments.full))
    CASES.update(obs.CASES if arguments.full else {})
    names = [n for n in CASES if not arguments.only or any(text in n for text in arguments.only)]
    if arguments.list:
        print("\n".join(names))
        return 0
    if not BINARY.exists():
        print(f"{BINARY} is missing: cargo build --release --locked", file=sys.stderr)
        return 1
    results = asyncio.run(run(names))
    passed = sum(result["ok"] for result in results)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    print(f"interop: {passed} passed, {len(results) - passed} failed")
    return 0 if results and passed == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
