"""What happens when the transcoder's ffmpeg dies, hangs, is missing, or lies: viewers stay, and the
picture returns or the page says why."""

import asyncio
import os
import pathlib
import signal
import stat
import time

import publishers
from checks import page_plays, require
from server import LOGS, Failure, Server, until

# From the fault to the picture moving again: a second to notice a hang, one to start again, and
# what two busy cores add.
RETURN_SECONDS_MAX = 5
# Six starts that each get a second and a little, on a machine that has other work.
EXPLAIN_SECONDS = 30
# All the page may say something with.
PAGE_TEXTS = ("#message-text",)

CASES = {}


def case(name):
    def register(function):
        CASES[name] = function
        return function

    return register


def children(pid):
    """Processes of ours below `pid`, at any depth: (pid, command name)."""
    parents, names = {}, {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text()
        except OSError:
            continue  # it ended meanwhile
        name, rest = text[text.index("(") + 1 :].rsplit(")", 1)
        parents[int(entry.name)], names[int(entry.name)] = int(rest.split()[1]), name
    below, added = {pid}, True
    while added:
        more = {child for child, parent in parents.items() if parent in below} - below
        below |= more
        added = bool(more)
    return [(child, names[child]) for child in sorted(below - {pid})]


def transcoders(server):
    return [pid for pid, name in children(server.process.pid) if name.startswith("ffmpeg")]


async def frames(page):
    return (await page.probe("counters")).get("video", {}).get("framesDecoded") or 0


async def moves_within(page, seconds, count=15):
    """Seconds until the picture has gone on by `count` frames."""
    began, before = time.monotonic(), await frames(page)

    async def moved():
        return await frames(page) >= before + count

    await until(moved, seconds, f"the picture goes on ({await page.seen()})")
    return round(time.monotonic() - began, 1)


async def child_fails(world, how):
    room = world.room("fault")
    async with publishers.ffmpeg(world.server, room, encoder="obs-defaults") as publisher:
        await world.live(publisher, room)
        async with await world.page(room) as ws, await world.page(room, "?whep") as whep:
            for page in (ws, whep):
                await page.wait_state("playing")
            await asyncio.sleep(2)
            [child] = transcoders(world.server) or [None]
            require(child, "no ffmpeg runs below the server")
            os.kill(child, how)
            await asyncio.sleep(0.2)  # what is under way is shown yet
            returned = [await moves_within(page, RETURN_SECONDS_MAX) for page in (ws, whep)]
            # The very same connections go on.
            figures = [await page_plays(page) for page in (ws, whep)]
            after = transcoders(world.server)
            require(len(after) == 1 and after != [child], f"ffmpeg {child} became {after}")
    await ends(world.server)
    return {"returned_s": returned, "after": figures}


async def ends(server):
    """No ffmpeg stays behind when nobody needs it."""
    await until(lambda: not transcoders(server), 20, "ffmpeg has ended with its stream")


@case("transcoder killed: the picture returns")
async def killed(world):
    return await child_fails(world, signal.SIGKILL)


@case("transcoder stopped in its tracks: the picture returns")
async def stopped(world):
    return await child_fails(world, signal.SIGSTOP)


@case("transcoder is started for viewers only, and ends with the server")
async def lives_with_viewers(world):
    room = world.room("lives")
    server = Server()
    try:
        await server.start()
        async with publishers.ffmpeg(server, room, encoder="obs-defaults"):
            await until(lambda: server.is_live(room), 15, f"room {room} is live")
            await asyncio.sleep(2)
            require(not transcoders(server), "ffmpeg runs though nobody watches")
            async with await world.browser.open(server.url(room)) as page:
                await page.wait_state("playing")
                [child] = transcoders(server) or [None]
                require(child, "no ffmpeg runs below the server")
                environment = pathlib.Path(f"/proc/{child}/environ").read_bytes()
                require(b"RTMPEER" not in environment, "ffmpeg sees the server's configuration")
                await server.kill()
                gone = lambda: not pathlib.Path(f"/proc/{child}").exists()  # noqa: E731
                await until(gone, 3, f"ffmpeg {child} ends with the server")
    finally:
        await server.kill()


async def explained(world, settings, word):
    """A server with these settings plays the sound and tells why there is no picture."""
    server = Server(settings=settings)
    room = world.room("explained")
    try:
        await server.start()
        async with publishers.ffmpeg(server, room, encoder="obs-defaults"):
            await until(lambda: server.is_live(room), 15, f"room {room} is live")
            async with await world.browser.open(server.url(room)) as page:
                said = await says_why(server, room, page, word)
                before = (await page.probe("counters")).get("audio", {})
                await asyncio.sleep(2)
                server.check_alive()
                after = (await page.probe("counters")).get("audio", {})
                grown = (after.get("totalSamplesReceived") or 0) - (before.get("totalSamplesReceived") or 0)
                require(grown > 48_000, f"the sound does not go on: {grown} samples in 2 s")
        await server.stop()
        return said
    finally:
        await server.kill()


async def says_why(server, room, page, word):
    seen = {}

    async def both():
        seen["page"] = [await page.probe("text", selector) for selector in PAGE_TEXTS]
        # Advice and verdict speak of ffmpeg and B-frames whatever becomes of the picture.
        told = seen["transcode"] = (await server.get_json(f"v1/rooms/{room}"))["transcode"]
        refused = told["state"] == "refused" and word in (told["problem"] or "")
        return refused and any(word in text for text in seen["page"])

    try:
        await until(both, EXPLAIN_SECONDS, f"page and the room's transcode speak of {word!r}")
    except Failure as failure:
        raise Failure(f"{failure}: {seen}") from None
    return seen["page"]


@case("no ffmpeg on the machine: page and /v1/rooms say so")
async def missing(world):
    return await explained(world, {"PATH": "/nonexistent"}, "no program")


@case("an ffmpeg that prints garbage: page and /v1/rooms say so")
async def garbage(world):
    script = LOGS / "garbage-ffmpeg"
    script.write_text("#!/bin/sh\nexec head -c 20000000 /dev/urandom\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return await explained(world, {"RTMPEER_VIDEO__FFMPEG": str(script)}, "not FLV")


@case("an ffmpeg that says nothing: page and /v1/rooms say so")
async def mute(world):
    script = LOGS / "mute-ffmpeg"
    script.write_text("#!/bin/sh\nexec sleep 1000\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return await explained(world, {"RTMPEER_VIDEO__FFMPEG": str(script)}, "gives none")


@case("a viewer who waits for the transcoder is told that the picture is prepared")
async def prepared(world):
    script = LOGS / "slow-ffmpeg"
    script.write_text("#!/bin/sh\nexec sleep 1000\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    server = Server(settings={"RTMPEER_VIDEO__FFMPEG": str(script)})
    room, said = world.room("prepared"), {}
    try:
        await server.start()
        async with publishers.ffmpeg(server, room, encoder="obs-defaults"):
            await until(lambda: server.is_live(room), 15, f"room {room} is live")
            for query in ("", "?whep"):
                async with await world.browser.open(server.url(room + query)) as page:
                    said[query or "ws"] = await page.wait_text("#message-text", "Preparing", seconds=10)
        return said
    finally:
        await server.kill()


@case("transcoding switched off: page and /v1/rooms say so")
async def never(world):
    return await explained(world, {"RTMPEER_VIDEO__TRANSCODE": "never"}, "video.transcode")


@case("more streams to transcode than the budget: the second says so")
async def budget(world):
    server = Server(settings={"RTMPEER_VIDEO__MAX_TRANSCODES": "1"})
    first, second = world.room("first"), world.room("second")
    try:
        await server.start()
        one = publishers.ffmpeg(server, first, encoder="obs-defaults")
        two = publishers.ffmpeg(server, second, encoder="obs-defaults")
        async with one, two:
            for room in (first, second):
                await until(lambda room=room: server.is_live(room), 15, f"room {room} is live")
            async with await world.browser.open(server.url(first)) as page:
                await page.wait_state("playing")
                async with await world.browser.open(server.url(second)) as other:
                    said = await says_why(server, second, other, "max_transcodes")
                    return {"said": said, "first": await page_plays(page)}
    finally:
        await server.kill()
