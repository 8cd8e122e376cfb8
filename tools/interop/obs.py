"""OBS Studio itself, as Debian has it, at its defaults: only the server and the key are filled in.
Runs under Xvfb with software rendering. Needs the packages obs-studio and xvfb."""

import asyncio
import json
import os
import pathlib
import shutil
import signal
import tempfile

from checks import check_colours, require
from server import LOGS, Failure, until

PROFILE = "rtmpeer"
START_SECONDS = 60
WATCH_SECONDS = 10
# A software renderer and x264 on a machine that also decodes twice: OBS skips frames of its own.
FRAMES_SHARE_MIN = 0.9
RED = (255, 0, 0)

CASES = {}


def write_settings(home, server, room):
    """What OBS would have written after its first start and the Stream page of its settings."""
    config = home / ".config/obs-studio"
    profile = config / "basic/profiles" / PROFILE
    profile.mkdir(parents=True)
    (config / "basic/scenes").mkdir()
    (config / "global.ini").write_text(
        "[General]\nFirstRun=true\nEnableAutoUpdates=false\nLastVersion=486539266\n"
        "InfoIncrement=99\n"
        f"[Basic]\nProfile={PROFILE}\nProfileDir={PROFILE}\n"
        f"SceneCollection={PROFILE}\nSceneCollectionFile={PROFILE}\n"
        "[BasicWindow]\nWarnBeforeStartingStream=false\n"
    )
    # Nothing of [Output], [SimpleOutput], [Video] or [Audio]: those are the defaults under test.
    (profile / "basic.ini").write_text(f"[General]\nName={PROFILE}\n")
    service = {"server": server.publish_url("").rstrip("/"), "key": room, "use_auth": False}
    (profile / "service.json").write_text(
        json.dumps({"type": "rtmp_custom", "settings": service}) + "\n"
    )
    colour = {
        "id": "color_source_v3", "name": "colour", "enabled": True,
        "settings": {"color": 0xFF << 24 | RED[2] << 16 | RED[1] << 8 | RED[0], "width": 1920, "height": 1080},
    }  # fmt: skip
    item = {"name": "colour", "id": 1, "visible": True, "scale": {"x": 1.0, "y": 1.0}}
    scene = {"id": "scene", "name": "scene", "settings": {"items": [item], "id_counter": 1}}
    collection = {
        "name": PROFILE, "current_scene": "scene", "current_program_scene": "scene",
        "scene_order": [{"name": "scene"}], "sources": [colour, scene],
    }  # fmt: skip
    (config / f"basic/scenes/{PROFILE}.json").write_text(json.dumps(collection) + "\n")


def obs_command():
    obs = ["obs", "--startstreaming", "--multi", "--profile", PROFILE, "--collection", PROFILE]
    obs += ["--minimize-to-tray", "--disable-shutdown-check"]
    return ["xvfb-run", "--auto-servernum", "--server-args=-screen 0 1280x720x24", *obs]


async def obs_plays(world):
    for command in ("obs", "xvfb-run"):
        require(shutil.which(command), f"{command} is not installed: apt-get install obs-studio xvfb")
    room = world.room("obs")
    home = pathlib.Path(tempfile.mkdtemp(prefix="rtmpeer-obs-"))
    write_settings(home, world.server, room)
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(home), "LIBGL_ALWAYS_SOFTWARE": "1",
        "XDG_RUNTIME_DIR": str(home), "QT_QPA_PLATFORM": "xcb", "LANG": "C.UTF-8",
    }  # fmt: skip
    with open(LOGS / "obs.log", "wb") as log:
        process = await asyncio.create_subprocess_exec(
            *obs_command(), env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        await until(lambda: live(world, process, room), START_SECONDS, f"OBS publishes {room}")
        async with await world.page(room) as page:
            await page.wait_state("playing", seconds=15)
            await asyncio.sleep(2)
            before = await page.probe("counters")
            await asyncio.sleep(WATCH_SECONDS)
            after = await page.probe("counters")
            grown = {
                name: after["video"][name] - before["video"][name]
                for name in ("framesDecoded", "freezeCount", "packetsLost")
            }
            grown["sound_samples"] = (
                after["audio"]["totalSamplesReceived"] - before["audio"]["totalSamplesReceived"]
            )
            grown["colour"] = (await page.probe("pixels", [(0.5, 0.5)]))[0]
            grown["entry"] = await world.server.room(room)
            await page.request("screenshot", file=str(LOGS / "obs.png"))
            rate = grown["framesDecoded"] / WATCH_SECONDS
            require(rate >= 30 * FRAMES_SHARE_MIN, f"{rate} frames/s: {grown}")
            require(grown["freezeCount"] == 0, f"froze: {grown}")
            check_colours({"the middle": RED}, [grown["colour"]])
            require(grown["sound_samples"] > 48_000 * WATCH_SECONDS * 0.9, f"sound is missing: {grown}")
            return grown
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 10)
            except asyncio.TimeoutError:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        shutil.rmtree(home, ignore_errors=True)


async def live(world, process, room):
    if process.returncode is not None:
        raise Failure(f"OBS ended with {process.returncode}: see {LOGS / 'obs.log'}")
    return await world.server.is_live(room)


CASES["OBS Studio at its defaults"] = obs_plays
