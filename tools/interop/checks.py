"""What must hold while a viewer plays, for each kind of viewer. All raise `Failure`."""

import asyncio
import statistics

import publishers
from aiortc_viewer import nearest_differences
from browser import Page
from server import Failure

# Longest time from opening the page, or posting the offer, to the first picture. Generous: two
# cores are shared by server, encoder and browser. The figures are printed.
FIRST_FRAME_MS_MAX = 5_000
# How long smooth playing is watched.
WATCH_SECONDS = 6
FRAMES_PER_SECOND = 30
# Frames that must be decoded, as part of those published.
FRAMES_SHARE_MIN = 0.9
# Difference of a colour channel: the picture went through a limited-range YUV codec.
COLOUR_TOLERANCE = 45
TONE_TOLERANCE_HERTZ = 6
SKEW_MS_MAX = 80
FLASHES_MIN = 8


def require(condition, what):
    if not condition:
        raise Failure(what)


def check_colours(expected, seen):
    for (place, want), got in zip(expected.items(), seen, strict=True):
        far = max(abs(a - b) for a, b in zip(want, got, strict=True))
        require(far <= COLOUR_TOLERANCE, f"colour {tuple(got)} instead of {want} at {place}")


def check_tone(hertz, want):
    require(abs(hertz - want) <= TONE_TOLERANCE_HERTZ, f"tone of {hertz:.0f} Hz instead of {want}")


def check_skew(flashes, beeps, differences=None):
    if differences is None:
        differences = nearest_differences(flashes, beeps)
    require(
        len(differences) >= FLASHES_MIN,
        f"only {len(differences)} flashes with a beep ({len(flashes)} flashes, {len(beeps)} beeps)",
    )
    skew = statistics.median(differences)
    require(abs(skew) <= SKEW_MS_MAX, f"sound is {skew:.0f} ms off the picture")
    return round(skew, 1)


async def page_plays(page: Page, boxes=None, tone=publishers.TONE_HERTZ, skew=False, looks=2):
    """The page shows the picture and plays the tone, without a freeze. Returns the figures."""
    await page.wait_state("playing", seconds=15)
    await asyncio.sleep(1)
    first_frame_ms = (await page.probe("snapshot"))["firstFrameMs"]
    require(first_frame_ms is not None, "no first picture noted")
    require(first_frame_ms <= FIRST_FRAME_MS_MAX, f"first picture after {first_frame_ms} ms")
    figures = await watch_page(page)
    # Browser, encoder and server share two cores with whatever else runs: a stumble is looked at
    # again. One that the server causes comes back, and every look is in the figures.
    if looks > 1 and not is_smooth(figures):
        figures = {**await watch_page(page), "first_look": figures}
    require(is_smooth(figures), f"not smooth: {figures}")
    figures["first_frame_ms"] = first_frame_ms
    boxes = publishers.BOXES if boxes is None else boxes
    check_colours(boxes, await page.probe("pixels", list(boxes)))
    require(figures["energy"] > 0, "the sound has no energy")
    tones = await page.probe("tones")
    require(tones[0]["decibel"] > -60, f"left channel is silent: {tones[0]}")
    check_tone(tones[0]["hertz"], tone)
    if skew:
        figures |= await page_skew(page, looks)
    errors = await page.request("errors")
    require(not errors, f"the page complains: {errors[:3]}")
    return figures


async def page_skew(page, looks):
    """How far the page's sound is off its picture. As with freezes, one stumble is forgiven:
    Chromium's jitter buffer of sound grows when the machine has no time for it, and the picture
    is delayed to match only in steps over some seconds."""
    failures = []
    while True:
        seen = await page.probe("flashesAndBeeps", FLASHES_MIN + 3, publishers.FLASH)
        try:
            figures = {"skew_ms": check_skew(seen["flashes"], seen["beeps"])}
        except Failure as failure:
            failures.append(str(failure))
            require(len(failures) < looks, "; ".join(failures))
            continue
        return figures | ({"first_skew": failures[0]} if failures else {})


async def watch_page(page):
    """What the page's connection counts in some seconds."""
    before = await page.probe("counters")
    await asyncio.sleep(WATCH_SECONDS)
    after = await page.probe("counters")
    grown = {}
    for kind in ("video", "audio"):
        require(kind in before and kind in after, f"no {kind} arrives")
        old, new = before[kind], after[kind]
        grown[kind] = {name: (new[name] or 0) - (old[name] or 0) for name in new}
    video, audio = grown["video"], grown["audio"]
    seconds = (after["at"] - before["at"]) / 1000
    return {
        "frames": video["framesDecoded"],
        "fps": round(video["framesDecoded"] / seconds, 1),
        "freezes": video["freezeCount"],
        "plis": after["video"]["pliCount"],
        "video_delay_ms": delay_ms(video),
        "audio_delay_ms": delay_ms(audio),
        "concealed_ms": round(audio["concealedSamples"] / 48),
        "energy": round(audio["totalAudioEnergy"], 3),
    }


def is_smooth(figures):
    least = FRAMES_SHARE_MIN * FRAMES_PER_SECOND
    return figures["fps"] >= least and figures["freezes"] == 0


def delay_ms(counters):
    """Mean time in the jitter buffer."""
    emitted = counters["jitterBufferEmittedCount"]
    return round(1000 * counters["jitterBufferDelay"] / emitted, 1) if emitted else None


async def aiortc_plays(viewer, boxes=None, tone=publishers.TONE_HERTZ, skew=False):
    """aiortc sees the picture and hears the tone, without a gap. Returns the figures."""
    seconds = FLASHES_MIN + 3 if skew else WATCH_SECONDS
    end = asyncio.get_running_loop().time() + 15
    while viewer.first_frame_ms is None or not viewer.audio:
        state = viewer.pc.connectionState
        require(state != "failed", "the connection failed")
        missing = "picture" if viewer.first_frame_ms is None else "sound"
        require(asyncio.get_running_loop().time() < end, f"no {missing} (connection {state})")
        await asyncio.sleep(0.05)
    await asyncio.sleep(1)
    first = len(viewer.video_times)
    await asyncio.sleep(seconds)
    frames = viewer.video_times[first:]
    figures = {"first_frame_ms": viewer.first_frame_ms, "frames": len(frames)}
    least = FRAMES_SHARE_MIN * FRAMES_PER_SECOND * seconds
    require(len(frames) >= least, f"{len(frames)} frames in {seconds} s")
    steps = [(b[1] - a[1]) / 90 for a, b in zip(frames, frames[1:])]
    gaps = [(b[0] - a[0]) * 1000 for a, b in zip(frames, frames[1:])]
    figures["gap_ms_max"] = round(max(gaps))
    # The definition of `freezeCount` (W3C webrtc-stats).
    mean = sum(gaps) / len(gaps)
    freezes = sum(gap > max(3 * mean, mean + 150) for gap in gaps)
    figures["freezes"] = freezes
    require(min(steps) > 0, f"time of the frames goes backward: {min(steps):.1f} ms")
    require(max(steps) < 100, f"frames are missing: a step of {max(steps):.0f} ms")
    require(freezes == 0, f"froze {freezes} times: {figures}")
    require(figures["first_frame_ms"] <= FIRST_FRAME_MS_MAX, f"first picture too late: {figures}")
    boxes = publishers.BOXES if boxes is None else boxes
    check_colours(boxes, [viewer.colour(*place) for place in boxes])
    tones = viewer.tones()
    check_tone(tones[0], tone)
    if skew:
        figures["skew_ms"] = check_skew(viewer.flashes, viewer.beeps(), viewer.skews_ms())
    return figures
