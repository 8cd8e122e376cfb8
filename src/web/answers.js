// What the server answers over HTTP, and what its refusals mean.

export const UNREACHABLE = 'The server is not reachable.';

/** JSON of the server's, always fresh; null if it has no such thing. */
export async function fetchJson(url) {
  const response = await fetch(url, { cache: 'no-store' });
  if (response.status === 404) return null;
  if (!response.ok) throw new Error(`The server answered ${response.status}.`);
  return response.json();
}

/** Turns an HTTP refusal into a reason for `down`. */
export async function refusal(response) {
  // What is not JSON says no more than its status.
  const body = await response.json().catch(() => null);
  const text = String(body?.error ?? `The server answered ${response.status}.`);
  const seconds = Number(response.headers.get('Retry-After'));
  return {
    text,
    offline: response.status === 409,
    final: [401, 403, 415].includes(response.status),
    retryAfterMs: seconds > 0 ? seconds * 1000 : undefined,
  };
}

/**
 * Why a WebSocket did not open, as a reason for `down`. Scripts cannot read what it was answered,
 * but they can read what its address answers to a plain GET, in which a browser may leave out where
 * the page is from.
 */
export async function whySocketFailed(address) {
  const url = new URL(address);
  url.protocol = url.protocol === 'wss:' ? 'https:' : 'http:';
  url.searchParams.set('origin', location.origin);
  const response = await fetch(url, { cache: 'no-store' }).catch(() => null);
  if (!response) return { text: UNREACHABLE };
  // The server would have taken it, or it is not our server that answers.
  if (response.ok || response.status === 426) {
    return { text: 'The WebSocket does not get through. Does a proxy in front of the server pass it on?' };
  }
  return refusal(response);
}
