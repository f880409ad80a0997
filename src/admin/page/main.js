// The frame around every view: the address decides which, and only one is alive at a time.

import { get, hasToken, setToken } from './api.js';
import * as events from './events.js';
import * as event from './event.js';
import { h, paint } from './dom.js';
import { count } from './format.js';
import * as letters from './letters.js';
import * as overview from './overview.js';
import * as parked from './parked.js';
import { button, chip, empty, heading, link } from './parts.js';
import * as plan from './plan.js';
import { poll } from './poll.js';
import * as quarantine from './quarantine.js';
import * as record from './record.js';
import * as replays from './replays.js';
import * as signin from './signin.js';
import * as sinks from './sinks.js';
import * as sources from './sources.js';
import { isUtc, localZone, setNow, setUtc, tick } from './time.js';
import { askWho, who } from './who.js';

const TICK = 5000;
const SECONDS = 10;

// States of a sink that somebody has to look at.
const IN_TROUBLE = ['failing', 'down', 'unavailable'];

// address: its name in the menu, what shows all of it, what shows one, and a number worth a look.
const VIEWS = {
  '': ['Overview', overview],
  events: ['Events', events, event],
  sinks: ['Sinks', sinks, null, (now) => now.sinks.filter((sink) => IN_TROUBLE.includes(sink.state)).length],
  parked: ['Parked', parked],
  'dead-letters': ['Dead letters', letters, letters, (now) => now.dead_letters],
  quarantine: ['Quarantine', quarantine, quarantine, (now) => now.quarantine.entries],
  replays: ['Replays', replays, replays],
  sources: ['Sources', sources],
  record: ['Record', record, record],
};

const main = document.getElementById('main');
let latest = null;
let alive = null;
let answers = true;
// What gets the focus when the next view is there.
let landing = 'h1';

// Where one types what to look for.
const SEARCH = 'input[type=search], .filters input, .filters select';

function address() {
  const [path, sought = ''] = window.location.hash.replace(/^#\/?/, '').split('?');
  const [name, id = ''] = path.split('/');
  return { name, id: decoded(id), query: new URLSearchParams(sought) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Goes to an address of this page, with what of the query is set. */
function go(base, query = {}) {
  const sought = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== '' && value !== null));
  const to = `${base}${sought.size ? `?${sought}` : ''}`;
  if (window.location.hash === to) route();
  else window.location.hash = to;
}

function onOverview(now) {
  latest = now;
  frame();
}

function route(first = false) {
  if (signin.takeFromAddress()) latest = null;
  alive?.abort();
  alive = new AbortController();
  main.replaceChildren();
  main.setAttribute('aria-busy', 'true');
  if (!hasToken()) {
    askForToken();
    return;
  }
  const { name, id, query } = address();
  open(name, id, query, alive.signal);
  if (name !== '') watch(alive.signal);
  frame();
  if (!first) focus();
}

/** Shows what the address names. Some views need to know the names of sinks and sources first. */
async function open(name, id, query, signal) {
  const view = VIEWS[name];
  document.title = `${[view?.[0], id].filter(Boolean).join(' ') || 'Not found'} \u2013 ralio-relay`;
  const shown = name === 'replays' && id === 'new' ? plan : id ? view?.[2] : view?.[1];
  if (!shown) {
    paint(main, heading('Not found'), empty('There is nothing at this address.', link('#/', 'To the overview')));
    main.removeAttribute('aria-busy');
    return;
  }
  if (name !== '' && !latest) await refresh(signal).catch(() => null);
  if (signal.aborted) return;
  const names = (list) => (list ?? []).map((one) => one.name);
  shown.show(main, { id, query, signal, go, onOverview, sinks: names(latest?.sinks), sources: names(latest?.sources) });
}

/** The heading of the new view, or what was asked for, gets the focus as soon as it is there. */
function focus() {
  const wanted = landing;
  landing = 'h1';
  const wait = new MutationObserver(() => {
    const target = main.querySelector(wanted);
    if (!target) return;
    wait.disconnect();
    target.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  });
  wait.observe(main, { childList: true, subtree: true });
  alive.signal.addEventListener('abort', () => wait.disconnect());
}

async function refresh(signal) {
  const now = await get('/overview', null, signal);
  setNow(now.now);
  onOverview(now);
}

/** Keeps the numbers in the menu up to date while another view is shown. */
function watch(signal) {
  poll(signal, SECONDS, () => refresh(signal).catch(() => null));
}

function askForToken() {
  alive?.abort();
  document.title = 'Token \u2013 ralio-relay';
  frame();
  signin.show(main, () => route());
}

function frame() {
  const signedIn = hasToken();
  const { name } = address();
  paint(
    document.getElementById('nav'),
    signedIn &&
      Object.entries(VIEWS).map(([at, [words, , , number]]) => {
        const worth = (latest && number?.(latest)) || 0;
        return link(`#/${at}`, [words, worth ? h('span', { class: 'badge' }, count(worth)) : null], {
          'aria-current': at === name ? 'page' : null,
        });
      }),
  );
  const zone = h('span', null, h('span', { class: 'roomy' }, 'Times: '), isUtc() ? 'UTC' : localZone());
  paint(
    document.getElementById('tools'),
    signedIn && [
      standing(),
      button(who() || 'Your name\u2026', askWho, {
        class: 'quiet who',
        title: who()
          ? `${who()}: kept in the record with what you do. Change it.`
          : 'Kept in the record with what you do.',
      }),
      button(zone, toggleZone, {
        class: 'quiet',
        title: 'Change between local time and UTC',
        'aria-pressed': String(isUtc()),
      }),
      button('Sign out', forget, { class: 'quiet' }),
    ],
  );
  paint(
    document.getElementById('foot'),
    signedIn && latest && `ralio-relay ${latest.version} (${latest.commit.slice(0, 12)}) on ${window.location.host}`,
  );
}

/** Whether the relay takes deliveries, as far as it is known. */
function standing() {
  if (!answers) return chip('bad', 'no answer');
  if (!latest) return null;
  return latest.ready ? chip('ok', 'ready') : chip('bad', 'not ready');
}

function heard(now) {
  if (answers === now) return;
  answers = now;
  frame();
}

function toggleZone() {
  setUtc(!isUtc());
  // A time that is typed into a filter is another one now.
  const { query } = address();
  if (query.has('since') || query.has('until')) route(true);
  else frame();
}

function forget() {
  setToken('');
  latest = null;
  route();
}

window.addEventListener('hashchange', () => {
  // The link past the menu is no address of a view.
  if (window.location.hash !== '#main') route();
});
/** `/` leads to the search of this view, or of the events where it has none. */
function search(event) {
  const isTyping = event.target.closest?.('input, select, textarea');
  const isOther = event.key !== '/' || event.ctrlKey || event.altKey || event.metaKey;
  if (isOther || isTyping || document.querySelector('dialog[open]') || !hasToken()) return;
  event.preventDefault();
  const field = main.querySelector(SEARCH);
  if (field) {
    field.focus();
    return;
  }
  landing = SEARCH;
  go('#/events');
}

document.addEventListener('keydown', search);
window.addEventListener('who', frame);
window.addEventListener('answer', () => heard(true));
window.addEventListener('no-answer', () => heard(false));
window.addEventListener('signed-out', () => {
  // The form tells by itself that a token was not taken.
  if (main.querySelector('.signin')) return;
  latest = null;
  askForToken();
});
document.getElementById('skip').onclick = (event) => {
  event.preventDefault();
  main.focus();
};
setInterval(() => document.hidden || tick(), TICK);
route(true);
