// The admin API. The token is in memory and in this tab's sessionStorage, never in a URL or a cookie.

const KEY = 'ralio-relay.token';
const PATIENCE = 20000;
let token = sessionStorage.getItem(KEY) ?? '';

/** What the relay refused, or that it did not answer: `message` says what to do. */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { status, code });
  }
}

/** Whether a token is held. */
export function hasToken() {
  return token !== '';
}

/** Keeps a token for this tab, or forgets it (''). */
export function setToken(value) {
  token = value;
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

/** `/api` + path, with what of the query is set; lists repeat their name. */
export function url(path, query) {
  const sought = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    for (const one of [value].flat()) {
      if (one !== null && one !== undefined && one !== '') sought.append(name, one);
    }
  }
  return `/api${path}${sought.size ? `?${sought}` : ''}`;
}

/** Asks for JSON. */
export async function get(path, query, signal) {
  return (await request(url(path, query), { signal: within(signal) })).json();
}

/** Asks for something to be done. */
export async function post(path, body, signal) {
  const headers = { 'Content-Type': 'application/json' };
  const sent = await request(url(path), {
    method: 'POST',
    headers,
    body: JSON.stringify(body),
    signal: within(signal),
  });
  return sent.json();
}

/** Events as they arrive, after `after`, until the signal says stop or the relay ends the stream. */
export async function tail(query, after, signal, each) {
  const answer = await request(url('/tail', { ...query, after }), { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    const found = lines.filter((line) => line.startsWith('data:')).map((line) => JSON.parse(line.slice(5)));
    if (found.length) each(found);
  }
}

function within(signal) {
  const timeout = AbortSignal.timeout(PATIENCE);
  return signal ? AbortSignal.any([signal, timeout]) : timeout;
}

async function request(where, options) {
  const headers = { ...options.headers, Authorization: `Bearer ${token}` };
  const sent = {
    ...options,
    headers,
    cache: 'no-store',
    credentials: 'omit',
    redirect: 'error',
    referrerPolicy: 'no-referrer',
  };
  let answer;
  try {
    answer = await fetch(where, sent);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    window.dispatchEvent(new Event('no-answer'));
    throw new ApiError(
      0,
      'no_answer',
      'The relay does not answer. Look whether it runs (systemctl status ralio-relay), and whether your SSH tunnel is up.',
    );
  }
  window.dispatchEvent(new Event('answer'));
  if (answer.ok) return answer;
  throw await refusal(answer);
}

async function refusal(answer) {
  const told = await answer.json().catch(() => ({}));
  if (answer.status === 401) {
    setToken('');
    window.dispatchEvent(new Event('signed-out'));
  }
  const starting = told.error === 'starting' ? 'The relay is opening its inbox. This page goes on by itself.' : null;
  return new ApiError(
    answer.status,
    told.error ?? `http_${answer.status}`,
    starting ?? told.message ?? `The relay answered ${answer.status}.`,
  );
}
