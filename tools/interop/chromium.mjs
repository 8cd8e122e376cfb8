// Drives Debian's Chromium for run.py: one JSON request a line on standard input,
// { id, method, params }, one answer a line on standard output, { id, result } or { id, error }.
// Ends, with its browsers, when standard input does.

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { chromium } from 'playwright-core';

const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // Sound is decoded and mixed as ever, and goes nowhere. (A muted element would not decode.)
  '--mute-audio',
  // Peers of these tests are on this machine only.
  '--allow-loopback-in-peer-connection',
  // Pages behind another one are to go on as the first.
  '--disable-backgrounding-occluded-windows',
  '--disable-renderer-backgrounding',
  '--disable-background-timer-throttling',
];

const probe = await readFile(new URL('probe.js', import.meta.url), 'utf8');
const browsers = new Map();
const pages = new Map();
let lastPage = 0;

/** One browser per autoplay policy, started when it is first needed. */
async function browser(policy) {
  if (!browsers.has(policy)) {
    const profile = await mkdtemp(path.join(tmpdir(), 'rtmpeer-chromium-'));
    const context = await chromium.launchPersistentContext(profile, {
      executablePath: '/usr/bin/chromium',
      headless: true,
      args: [...ARGS, `--autoplay-policy=${policy}`],
      viewport: { width: 960, height: 600 },
    });
    browsers.set(policy, { context, profile });
  }
  return browsers.get(policy).context;
}

/**
 * Evaluates an expression in a page as a bystander. Playwright's own evaluate() counts as a
 * touch of the user, after which the page may play sound: autoplay could not be tested with it.
 */
async function look({ session }, expression) {
  const { result, exceptionDetails } = await session.send('Runtime.evaluate', {
    expression, awaitPromise: true, returnByValue: true, userGesture: false,
  });
  if (!exceptionDetails) return result.value;
  throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
}

const methods = {
  async version() {
    const context = await browser('no-user-gesture-required');
    return context.browser()?.version() ?? 'unknown';
  },
  /** Opens a page and answers with its number. */
  async open({ url, policy = 'no-user-gesture-required', width, height }) {
    const page = await (await browser(policy)).newPage();
    if (width) await page.setViewportSize({ width, height });
    const errors = [];
    page.on('pageerror', (error) => errors.push(String(error)));
    page.on('console', (message) => {
      if (message.type() === 'error') errors.push(message.text());
    });
    await page.addInitScript(probe);
    await page.goto(url, { timeout: 15000 });
    const session = await page.context().newCDPSession(page);
    lastPage += 1;
    pages.set(lastPage, { page, errors, session });
    return lastPage;
  },
  /** Calls a function of probe.js in the page. */
  async call({ page, name, args = [] }) {
    return look(pages.get(page), `window.probe.${name}(...${JSON.stringify(args)})`);
  },
  /** Waits until the page is in one of the states, and answers with it. */
  async waitState({ page, states, timeoutMs }) {
    const entry = pages.get(page);
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const state = await look(entry, 'document.body.dataset.state');
      if (states.includes(state)) return state;
      if (performance.now() > deadline) throw new Error(`the page is ${state} after ${timeoutMs} ms`);
      await setTimeout(50);
    }
  },
  /** Waits until an element is shown, and answers with its text. */
  async waitText({ page, selector, timeoutMs, containing }) {
    const element = pages.get(page).page.locator(selector);
    const shown = containing ? element.filter({ hasText: containing }) : element;
    await shown.first().waitFor({ state: 'visible', timeout: timeoutMs });
    return shown.first().innerText();
  },
  async click({ page, selector }) {
    await pages.get(page).page.click(selector, { timeout: 5000 });
  },
  async press({ page, key }) {
    await pages.get(page).page.keyboard.press(key);
  },
  async fill({ page, selector, text }) {
    await pages.get(page).page.fill(selector, text, { timeout: 5000 });
  },
  async screenshot({ page, file }) {
    await pages.get(page).page.screenshot({ path: file });
  },
  /** What the page complained of: uncaught errors, policy violations. */
  async errors({ page }) {
    return pages.get(page).errors;
  },
  async close({ page }) {
    const entry = pages.get(page);
    pages.delete(page);
    // A closed page is to say goodbye as it would to a user.
    await entry?.page.close({ runBeforeUnload: false });
  },
};

async function serve(line) {
  const { id, method, params } = JSON.parse(line);
  let answer;
  try {
    answer = { id, result: (await methods[method](params ?? {})) ?? null };
  } catch (error) {
    answer = { id, error: String(error.message ?? error).split('\n').slice(0, 4).join(' ') };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

const lines = createInterface({ input: process.stdin });
lines.on('line', serve);
lines.on('close', async () => {
  for (const { context, profile } of browsers.values()) {
    await context.close().catch(() => {});
    await rm(profile, { recursive: true, force: true });
  }
  process.exit(0);
});
