// Measures what a room's page really shows and plays. Put into each page before its own scripts.

window.probe = (() => {
  const video = () => document.querySelector('video');
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));

  /** An AudioContext with an analyser on each channel of what the page plays. */
  function listen(fftSize) {
    const context = new AudioContext({ sampleRate: 48000 });
    const source = context.createMediaStreamSource(video().srcObject);
    const splitter = context.createChannelSplitter(2);
    source.connect(splitter);
    const channels = [0, 1].map((channel) => {
      const analyser = context.createAnalyser();
      analyser.fftSize = fftSize;
      analyser.smoothingTimeConstant = 0;
      splitter.connect(analyser, channel);
      return analyser;
    });
    return { context, channels };
  }

  function peak(analyser) {
    const bins = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(bins);
    let best = 0;
    for (let bin = 1; bin < bins.length; bin += 1) if (bins[bin] > bins[best]) best = bin;
    const hertz = (best * analyser.context.sampleRate) / analyser.fftSize;
    return { hertz, decibel: bins[best] };
  }

  /** Where in a second's rhythm things begin: times of first entries above the threshold. */
  function onsets(quietMs) {
    const times = [];
    let lastLoud = -Infinity;
    return {
      times,
      loud(at) {
        if (at - lastLoud > quietMs) times.push(at);
        lastLoud = Math.max(lastLoud, at);
      },
    };
  }

  /** Gives each decoded piece of a track to `take`, until the answer is called. */
  function eachOf(kind, take) {
    const [own] = video().srcObject[`get${kind}Tracks`]();
    if (!own) return async () => {};
    const track = own.clone();
    const reader = new MediaStreamTrackProcessor({ track, maxBufferSize: 50 }).readable.getReader();
    const reading = (async () => {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        await take(value);
        value.close();
      }
    })();
    return async () => {
      track.stop();
      await reading;
    };
  }

  /** The number in a frame's black and white blocks, as counter.py reads it, or null. */
  async function readNumber(frame, bits, rows) {
    const { width, height } = frame.visibleRect;
    const lumas = [];
    for (const row of rows) {
      const y = Math.floor((row * height) / 2) * 2;
      const buffer = new Uint8Array(frame.allocationSize({ rect: { x: 0, y, width, height: 2 } }));
      const [plane] = await frame.copyTo(buffer, { rect: { x: 0, y, width, height: 2 } });
      lumas.push(buffer.subarray(plane.offset));
    }
    let number = 0;
    for (let bit = 0; bit < bits; bit += 1) {
      const x = Math.floor(((bit + 0.5) * width) / bits);
      const [upper, lower] = lumas.map((luma) => luma[x]);
      if (Math.abs(upper - lower) < 60) return null;
      if (upper > lower) number += 2 ** bit;
    }
    return number;
  }

  return {
    snapshot() {
      const figures = window.rtmpeer?.stats() ?? {};
      return {
        state: document.body.dataset.state,
        text: document.getElementById('message-text')?.textContent,
        advice: document.getElementById('advice')?.textContent,
        muted: video()?.muted,
        at: performance.now(),
        ...figures,
      };
    },

    /** Fresh counters straight from the connection, not from the page's own arithmetic. */
    async counters() {
      const report = await window.rtmpeer.pc.getStats();
      const counters = { at: performance.now() };
      for (const entry of report.values()) {
        if (entry.type !== 'inbound-rtp') continue;
        const fields = entry.kind === 'video'
          ? ['framesDecoded', 'framesReceived', 'framesDropped', 'freezeCount',
            'totalFreezesDuration', 'packetsLost', 'nackCount', 'pliCount', 'keyFramesDecoded',
            'packetsReceived', 'estimatedPlayoutTimestamp', 'jitterBufferDelay',
            'jitterBufferEmittedCount']
          : ['totalAudioEnergy', 'totalSamplesReceived', 'concealedSamples', 'packetsLost',
            'packetsReceived', 'estimatedPlayoutTimestamp', 'jitterBufferDelay',
            'jitterBufferEmittedCount'];
        counters[entry.kind] = Object.fromEntries(fields.map((name) => [name, entry[name] ?? null]));
      }
      return counters;
    },

    /** Colours at points given in fractions of the picture: [[r, g, b], …]. */
    pixels(points) {
      const canvas = document.createElement('canvas');
      canvas.width = video().videoWidth;
      canvas.height = video().videoHeight;
      const context = canvas.getContext('2d', { willReadFrequently: true });
      context.drawImage(video(), 0, 0);
      return points.map(([x, y]) => {
        const at = [Math.floor(x * canvas.width), Math.floor(y * canvas.height)];
        return [...context.getImageData(at[0], at[1], 1, 1).data.slice(0, 3)];
      });
    },

    size() {
      return [video().videoWidth, video().videoHeight];
    },

    /** The loudest frequency of each channel. */
    async tones() {
      const { context, channels } = listen(16384);
      await pause(1000);
      const result = channels.map(peak);
      await context.close();
      return result;
    },

    /**
     * Times of flashes at a point of the picture and of beeps on the right channel, in
     * milliseconds of this page's clock: when they are shown and when they are played.
     */
    async flashesAndBeeps(seconds, [x, y]) {
      const { context, channels } = listen(2048);
      const samples = new Float32Array(2048);
      const flashes = onsets(300);
      const beeps = onsets(300);
      const canvas = document.createElement('canvas');
      canvas.width = canvas.height = 1;
      const pixel = canvas.getContext('2d', { willReadFrequently: true });
      let frames = 0;
      let running = true;
      const look = (now, frame) => {
        frames += 1;
        const { videoWidth, videoHeight } = video();
        pixel.drawImage(video(), x * videoWidth, y * videoHeight, 4, 4, 0, 0, 1, 1);
        if (pixel.getImageData(0, 0, 1, 1).data[0] > 128) flashes.loud(frame.expectedDisplayTime);
        if (running) video().requestVideoFrameCallback(look);
      };
      video().requestVideoFrameCallback(look);
      const end = performance.now() + seconds * 1000;
      while (performance.now() < end) {
        channels[1].getFloatTimeDomainData(samples);
        const now = performance.now();
        for (let index = 0; index < samples.length; index += 1) {
          if (Math.abs(samples[index]) > 0.15) {
            beeps.loud(now - ((samples.length - index) * 1000) / context.sampleRate);
          }
        }
        await pause(4);
      }
      running = false;
      await context.close();
      return { flashes: flashes.times, beeps: beeps.times, frames };
    },

    /**
     * Everything about a clip of the matrix at once: the number in each decoded frame with the
     * wall clock when it came; when flashes are shown; when beeps leave for the loudspeaker (an
     * AudioContext, as in `flashesAndBeeps`, is some 20 ms behind that); tones and counters.
     */
    async record(seconds, flash, bits, rows) {
      const before = await this.counters();
      const numbers = [];
      const beeps = onsets(300);
      const ends = [
        eachOf('Video', async (frame) => {
          const at = performance.timeOrigin + performance.now();
          numbers.push([at, await readNumber(frame, bits, rows)]);
        }),
        eachOf('Audio', (data) => {
          const samples = new Float32Array(data.numberOfFrames);
          const planeIndex = data.numberOfChannels - 1;
          data.copyTo(samples, { planeIndex, format: 'f32-planar' });
          samples.forEach((sample, index) => {
            if (Math.abs(sample) > 0.15) {
              beeps.loud(data.timestamp / 1000 + (index * 1000) / data.sampleRate);
            }
          });
        }),
      ];
      const { flashes } = await this.flashesAndBeeps(seconds, flash);
      for (const end of ends) await end();
      const after = await this.counters();
      return { before, after, numbers, flashes, beeps: beeps.times, tones: await this.tones() };
    },

    /** How far the page is wider than the window, in pixels. */
    overflow() {
      return document.documentElement.scrollWidth - window.innerWidth;
    },

    chatLines() {
      return [...document.querySelectorAll('#chat-lines li')].map((line) => line.textContent);
    },

    text(selector) {
      return document.querySelector(selector)?.textContent ?? null;
    },

    /** What lies over the picture and can be seen, by its id. */
    overPicture() {
      const others = [...document.querySelectorAll('#stage > *')].filter((it) => it !== video());
      const seen = (it) => !it.hidden && getComputedStyle(it).opacity !== '0';
      return others.filter(seen).map((it) => it.id);
    },

    shown(selector) {
      const element = document.querySelector(selector);
      return Boolean(element) && !element.hidden;
    },
  };
})();
