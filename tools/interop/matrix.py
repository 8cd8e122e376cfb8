#!/usr/bin/env python3
"""The media matrix: each clip of media.py published by real encoders, watched by Chromium and
aiortc at once.

    matrix.py RESULTS.json DOCS.md     writes the table of what `run.py --full --json` found
"""

import json
import pathlib
import statistics
import sys
import time

import media
import publishers
from aiortc_viewer import AiortcViewer, nearest_differences
from checks import check_colours, check_tone, require
from counter import COUNTER_BITS, COUNTER_ROWS
from server import Failure
from tap import Tap

PREFIX = "clip "
RECORD_SECONDS = 14
LOOKS = 3
# Chromium begins with the sound some 100 ms late (its audio buffer is the longer one) and takes
# about ten seconds to bring both together: of its flashes, so many of the last ones count.
SETTLED_FLASHES = 3
# Beginnings of a second that are seen and heard, of the record's fourteen: a busy browser looks at
# the picture too late for some.
BEEPS_MIN = 9
# Frames that must be decoded, as part of those published meanwhile.
FRAMES_SHARE_MIN = 0.98
# Sound against picture, beyond what the clip itself has: as a rule, and where Chromium has a larger
# step to make, with a transcoded picture or sound that comes 128 ms at a time.
SKEW_MS_MAX = {False: 40, True: 80}
# From the room being live to the page that waits for it playing. Without a picture, it waits for
# one a little first.
START_MS_MAX = {True: 3_000, False: 5_000}


def cases(full):
    """Cases by name, each an async function of the world. Pictures come from every encoder that can,
    in the whole matrix; else encoders alternate."""
    found = {}
    clips = media.CLIPS if full else [clip for clip in media.CLIPS if clip.small]
    for turn, clip in enumerate(clips):
        encoders = clip.publishers()
        every = full and clip in media.VIDEO
        for name, binary in encoders if every else [encoders[turn % len(encoders)]]:
            how = ("ws", "whep")[turn % 2]

            async def play(world, clip=clip, binary=binary, how=how):
                return await play_until_smooth(world, clip, binary(), how)

            play.clip = clip
            found[f"{PREFIX}{clip.name} from {name}"] = play
    return found


def prepare(chosen):
    """Makes the clips of these cases before any clock runs. A clip that cannot be made fails in its
    case, with the reason."""
    for clip in {case.clip: None for case in chosen if hasattr(case, "clip")}:
        began = time.monotonic()
        try:
            media.make(clip)
        except Failure as failure:
            print(f"clip {clip.name}: {failure}", flush=True)
        if time.monotonic() - began > 1:
            print(f"made clip {clip.name} ({time.monotonic() - began:.0f} s)", flush=True)


async def play_until_smooth(world, clip, binary, how):
    """Two cores are shared by encoder, server, transcoder and two viewers: what fails is looked at
    again. What the server causes comes back; every look is in the figures."""
    failed = []
    while True:
        try:
            figures = await play_clip(world, clip, binary, how)
            return {**figures, "failed_looks": failed} if failed else figures
        except Failure as failure:
            failed.append(str(failure))
            if len(failed) == LOOKS:
                raise Failure("; then ".join(dict.fromkeys(failed))) from None


async def play_clip(world, clip, binary, how):
    path, facts = media.make(clip)
    room = world.room("clip")
    query = "?whep&stats=1" if how == "whep" else "?stats=1"
    async with await world.page(room, query) as page, Tap(world.server) as tap:
        arguments = media.publish_arguments(clip, path, binary, tap.publish_url(room))
        # One viewer waits for the publish, the other comes to what runs.
        await page.wait_state("offline")
        async with publishers.Publisher(f"ffmpeg-{room}", arguments) as publisher:
            await world.live(publisher, room)
            live = time.monotonic()
            await page.wait_state("playing", seconds=8)
            start_ms = round((time.monotonic() - live) * 1000)
            async with AiortcViewer(world.server, room, "whep") as viewer:
                viewer.numbers = []
                seen = await page.probe(
                    "record", RECORD_SECONDS, publishers.FLASH, COUNTER_BITS, COUNTER_ROWS
                )
                colours = await page.probe("pixels", list(publishers.BOXES)) if clip.video else None
                entry = await world.server.room(room)
                # What the publisher held up is not the server's.
                pauses = [b - a for a, b in zip(tap.times, tap.times[1:])]
                pause_ms = round(max(pauses, default=0))
                try:
                    figures = judge(clip, facts, seen, colours, viewer)
                except Failure as failure:
                    raise Failure(f"{failure} (publisher's longest pause: {pause_ms} ms)") from None
                figures["pause_ms"] = pause_ms
                figures["delay_ms"] = delays(facts["order"], tap.times, seen, viewer)
        require(start_ms <= START_MS_MAX[bool(clip.video)], f"plays only after {start_ms} ms")
        errors = await page.request("errors")
        require(not errors, f"the page complains: {errors[:3]}")
    figures["start_ms"] = start_ms
    said = {key: entry.get(key) for key in ("video", "audio", "advice")}
    return {**figures, "server_says": {**said, "transcode": entry["transcode"]["state"]}}


def judge(clip, facts, seen, colours, viewer):
    """Holds what both viewers saw and heard against the clip. Returns the figures."""
    figures = {}
    if clip.video:
        figures["chromium"] = judge_numbers("chromium", [n for _, n in seen["numbers"]])
        before, after = (seen[when].get("video", {}).get("freezeCount") or 0 for when in ("before", "after"))
        require(after == before, f"chromium froze {after - before} times")
        check_colours(publishers.BOXES, colours)
        figures["aiortc"] = judge_numbers("aiortc", [n for _, _, n in viewer.numbers])
        check_colours(publishers.BOXES, [viewer.colour(*place) for place in publishers.BOXES])
        figures["join_ms"] = viewer.first_frame_ms
    if clip.audio:
        require(viewer.audio, "aiortc hears nothing")
        tones = {"chromium": seen["tones"][0]["hertz"], "aiortc": viewer.tones()[0]}
        for hertz in tones.values():
            check_tone(hertz, publishers.TONE_HERTZ)
        figures["tone_hertz"] = {name: round(hertz, 1) for name, hertz in tones.items()}
        figures["level_db"] = level_db(viewer)
        heard = {"chromium": len(seen["beeps"]), "aiortc": len(viewer.beeps())}
        for name, beeps in heard.items():
            require(beeps >= BEEPS_MIN, f"{name} heard {beeps} beeps in {RECORD_SECONDS} s")
        before, after = (
            seen[when].get("audio", {}).get("concealedSamples") or 0 for when in ("before", "after")
        )
        figures["concealed_ms"] = round((after - before) / 48)
    if clip.video and clip.audio:
        differences = nearest_differences(seen["flashes"], seen["beeps"])
        require(len(differences) >= BEEPS_MIN, f"chromium: only {len(differences)} flashes with a beep")
        figures["skew_ms"] = {
            "chromium": judge_skew("chromium", clip, facts, differences[-SETTLED_FLASHES:]),
            "aiortc": judge_skew("aiortc", clip, facts, viewer.skews_ms()),
        }
    return figures


def judge_numbers(who, numbers):
    """The frames' numbers must rise, and few may be missing or damaged."""
    require(numbers, f"{who} decoded nothing")
    good = [number for number in numbers if number is not None]
    require(len(good) >= FRAMES_SHARE_MIN * len(numbers), f"{who}: {_damage(numbers)} frames damaged")
    back = [(a, b) for a, b in zip(good, good[1:]) if b <= a]
    require(not back, f"{who}: frames out of order: {back[:5]}")
    published = good[-1] - good[0] + 1
    share = len(good) / published
    require(share >= FRAMES_SHARE_MIN, f"{who} decoded {len(good)} of {published} frames")
    seconds = published / media.FPS
    require(seconds >= RECORD_SECONDS * 0.8, f"{who} saw {seconds:.1f} s of {RECORD_SECONDS} s")
    return {"frames": len(good), "of": published, "percent": round(share * 100, 1)}


def _damage(numbers):
    return f"{numbers.count(None)} of {len(numbers)}"


def judge_skew(who, clip, facts, differences):
    require(differences, f"{who}: no flash with a beep")
    skew = statistics.median(differences) - facts["skew_ms"]
    limit = SKEW_MS_MAX[clip.transcoded or clip.long_pieces]
    require(abs(skew) <= limit, f"{who}: sound is {skew:.0f} ms off the picture (limit {limit} ms)")
    return round(skew, 1)


def delays(order, times, seen, viewer):
    """From the publisher's last byte of a frame to each viewer's decoder having it, the stream's own
    reordering included: median and 95th percentile in milliseconds."""
    sent = dict(zip(order, times))
    late = {
        "chromium": [at - sent[number] for at, number in seen["numbers"] if number in sent],
        "aiortc": [at - sent[number] for at, _, number in viewer.numbers if number in sent],
    }
    return {
        who: [round(statistics.median(values)), round(sorted(values)[len(values) * 95 // 100])]
        for who, values in late.items()
        if values
    }


def level_db(viewer):
    """Loudness of the tone on the left, against full scale."""
    import numpy

    newest = numpy.concatenate([samples for _, samples in viewer.audio])[-48_000:, 0]
    window = numpy.hanning(len(newest))
    peak = 2 * numpy.abs(numpy.fft.rfft(newest * window)).max() / window.sum()
    return round(float(20 * numpy.log10(peak + 1e-9)), 1)


# -- the table --

HEAD = """# What plays

Generated by `./tools/test --full` from what was measured; not typed. Each clip ({seconds} s,
{fps} frames/s, numbered frames, a flash and a beep each second) is published over RTMP with
`ffmpeg -c copy` and watched by Chromium and aiortc at once for {record} s. It counts as played if
both decode ≥ {share:.0%} of the frames, in order, with no freeze, the right colours and the right tone,
and sound is within {passed} ms of the picture ({transcoded} ms where the picture is transcoded, or the
sound comes in pieces of 128 ms). Whether a picture is transcoded is what the server said at the end
(of a clip that did not play: what was to be expected).

Skew is sound after picture, beyond the clip's own: in aiortc by the sender reports, in Chromium as
shown and heard in the last {settled} s, for it brings both together little by little. Delay is from
the publisher's last byte of a frame to Chromium's decoder having it, the stream's own reordering
included (median, 95th percentile); start is from the room being live
to the picture, for a page that waits; join is from a viewer's offer to its first picture.

{passing} of {all} play.

| source | encoder | picture | plays | frames (Chromium, aiortc) | skew ms (Chromium, aiortc) | delay ms | start ms | join ms | tone dBFS |
|---|---|---|---|---|---|---|---|---|---|
"""


# The column by the room's state at the end of the record; without a picture there is none.
PICTURE = {None: "–", "off": "as it is", "running": "transcoded"}


def transcode_state(figures, clip):
    """What the server said of the picture; of a clip that failed, what was to be expected."""
    return figures.get("server_says", {}).get("transcode", "running" if clip.transcoded else "off")


def row(result):
    name, encoder = result["name"].removeprefix(PREFIX).rsplit(" from ", 1)
    clip = next((clip for clip in media.CLIPS if clip.name == name), None)
    figures = result["figures"] or {}

    def pair(key, inner=None):
        values = [figures.get(who) if key is None else figures.get(key, {}).get(who)
                  for who in ("chromium", "aiortc")]  # fmt: skip
        if not any(values) and values != [0, 0]:
            return "–"
        return ", ".join("–" if v is None else f"{v[inner]} %" if inner else f"{v:g}" for v in values)

    state = transcode_state(figures, clip) if clip and clip.video else None
    picture = PICTURE.get(state, state)
    plays = "yes" if result["ok"] else f"**no**: {(result['problem'] or '').splitlines()[-1][:90]}"
    if "failed_looks" in figures:
        plays += f" (at look {len(figures['failed_looks']) + 1})"
    delay = figures.get("delay_ms", {}).get("chromium")
    columns = [
        name, encoder, picture, plays.replace("|", "/"), pair(None, "percent"), pair("skew_ms"),
        "–" if not delay else f"{delay[0]}, {delay[1]}", figures.get("start_ms", "–"),
        figures.get("join_ms", "–"), figures.get("level_db", "–"),
    ]  # fmt: skip
    return f"| {' | '.join(str(column) for column in columns)} |\n"


def table(results):
    results = [result for result in results if result["name"].startswith(PREFIX)]
    text = HEAD.format(
        seconds=media.CLIP_SECONDS, fps=media.FPS, record=RECORD_SECONDS, settled=SETTLED_FLASHES, share=FRAMES_SHARE_MIN,
        passed=SKEW_MS_MAX[False], transcoded=SKEW_MS_MAX[True], all=len(results),
        passing=sum(result["ok"] for result in results),
    )  # fmt: skip
    text += "".join(map(row, results))
    text += "\nNot covered: " + "; ".join(f"{n} ({why})" for n, why in media.NOT_COVERED.items()) + ".\n"
    return text


def main():
    results, docs = map(pathlib.Path, sys.argv[1:3])
    docs.write_text(table(json.loads(results.read_text())))


if __name__ == "__main__":
    main()
