// Events: searching, and following them as they arrive.

import { get, tail } from './api.js';
import { h, paint, table } from './dom.js';
import { bytes, count, many } from './format.js';
import { NAMES, mainFields, moreFields, moreSet } from './filters.js';
import { say } from './messages.js';
import {
  about,
  button,
  empty,
  eventLink,
  field,
  flags,
  heading,
  link,
  problem,
  progress,
  reported,
  select,
  values,
} from './parts.js';
import { told } from './poll.js';
import { time, withMoments } from './time.js';

const PAGE = 50;
const MOST_LIVE = 500;
const BATCH = 300;
const RECONNECT = 3000;

/** Shows the view in `main` until the signal. */
export function show(main, { query, signal, sources, go }) {
  const filter = Object.fromEntries([...NAMES, 'order'].map((name) => [name, query.get(name) ?? '']));
  const view = {
    main,
    filter,
    signal,
    sources,
    go,
    rows: [],
    next: null,
    searched: null,
    state: 'searching',
    error: null,
    fresh: new Set(),
    live: query.get('live') === '1',
  };
  signal.addEventListener('abort', () => view.stop?.abort());
  paint(main, heading('Events', liveSwitch(view)), form(view), h('div', { id: 'found' }));
  // What is followed comes newest first.
  if (view.live) filter.order = '';
  view.sought = withMoments(filter);
  if (view.live) follow(view);
  else more(view);
  window.addEventListener('changed', () => view.error && more(view), { signal });
}

function liveSwitch({ live, filter, go }) {
  return button(live ? 'Stop the live tail' : 'Live tail', () => go('#/events', { ...filter, live: live ? '' : '1' }), {
    'aria-pressed': String(live),
    class: live ? 'on' : null,
  });
}

function form(view) {
  const { filter, sources, go, live } = view;
  const submit = (event) => {
    event.preventDefault();
    go('#/events', { ...values(event.target), live: live ? '1' : '' });
  };
  const set = moreSet(filter);
  const order = select('order', filter.order, [
    ['', 'newest first'],
    ['oldest', 'oldest first'],
  ]);
  return h(
    'form',
    { class: 'filters', role: 'search', 'aria-label': 'Filters', onsubmit: submit },
    h(
      'div',
      { class: 'fields' },
      mainFields(filter),
      h(
        'div',
        { class: 'actions' },
        h('button', { type: 'submit', class: 'primary' }, 'Search'),
        link('#/events', 'Clear'),
      ),
    ),
    h(
      'details',
      { open: set > 0 },
      h('summary', null, set ? `More filters (${set} set)` : 'More filters'),
      h('div', { class: 'fields' }, moreFields(filter, sources), field('Order', order)),
    ),
  );
}

/** Asks for a page of events; where the relay has to look through many, it answers in pieces. */
async function more(view) {
  const stop = new AbortController();
  Object.assign(view, { stop, state: 'searching', error: null });
  const signal = AbortSignal.any([view.signal, stop.signal]);
  let wanted = PAGE;
  draw(view);
  try {
    do {
      const page = await get('/events', { ...view.sought, limit: wanted, cursor: view.next }, signal);
      view.rows.push(...page.events);
      Object.assign(view, { next: page.next, searched: page.searched });
      wanted -= page.events.length;
      draw(view);
    } while (view.next && wanted > 0);
    view.state = 'done';
    say(`${many(view.rows.length, 'event')}${view.next ? ', and more' : ''}`);
  } catch (error) {
    if (view.signal.aborted) return;
    if (error.name === 'AbortError') view.state = 'stopped';
    else Object.assign(view, { state: 'failed', error: told(error) });
  }
  draw(view);
}

/** Follows the log: first what is there, then each event as it comes, for as long as somebody looks. */
async function follow(view) {
  await more(view);
  const look = () => {
    if (document.hidden) view.stop?.abort();
    else stream(view);
  };
  document.addEventListener('visibilitychange', look, { signal: view.signal });
  look();
}

async function stream(view) {
  const stop = new AbortController();
  Object.assign(view, { stop, state: 'live', error: null });
  draw(view);
  const signal = AbortSignal.any([view.signal, stop.signal]);
  const { order, ...filter } = view.sought;
  try {
    // After the end of what was searched, also where nothing was found: in between, something may have come.
    await tail(filter, view.last ?? view.searched?.total, signal, (events) => arrived(view, events));
    throw new Error('The relay ended the stream.');
  } catch (error) {
    if (signal.aborted) return;
    Object.assign(view, { state: 'broken', error });
    draw(view);
    setTimeout(() => !signal.aborted && !document.hidden && stream(view), RECONNECT);
  }
}

/** Many may come at once: they are shown together. */
function arrived(view, events) {
  const newest = [...events].reverse();
  view.last = newest[0].seq;
  newest.forEach((event) => view.fresh.add(event.seq));
  const rows = [...newest, ...view.rows];
  view.rows = rows.slice(0, MOST_LIVE);
  rows.slice(MOST_LIVE).forEach((event) => view.fresh.delete(event.seq));
  view.unsaid = (view.unsaid ?? 0) + events.length;
  view.batch ??= setTimeout(() => {
    say(`${many(view.unsaid, 'new event')}, the last ${view.rows[0].type}`);
    Object.assign(view, { batch: null, unsaid: 0 });
    draw(view);
  }, BATCH);
}

function draw(view) {
  if (view.signal.aborted) return;
  view.main.removeAttribute('aria-busy');
  const { rows, state, error, next } = view;
  paint(
    view.main.querySelector('#found'),
    state === 'failed' && problem(error),
    status(view),
    rows.length ? eventTable(rows, view.fresh) : nothing(view),
    state === 'done' &&
      next &&
      h(
        'p',
        { class: 'after' },
        button('Show more', () => more(view)),
      ),
  );
}

function status(view) {
  const { state, searched } = view;
  if (state === 'live')
    return h(
      'p',
      { class: 'status' },
      h('span', { class: 'pulse', 'aria-hidden': 'true' }),
      'Live: new events appear at the top.',
    );
  if (state === 'broken')
    return h(
      'p',
      { class: 'status' },
      `The live tail broke off: ${view.error.message} It is taken up again by itself.`,
    );
  if (state === 'stopped' && !view.live) {
    return h(
      'p',
      { class: 'status', 'data-key': 'searched' },
      `Stopped. ${far(searched)}`,
      button('Go on', () => more(view)),
    );
  }
  if (state !== 'searching') return null;
  return h(
    'p',
    { class: 'status', 'data-key': 'searched' },
    progress('Progress of the search', searched?.done ?? 0, searched?.total ?? 0),
    far(searched),
    button('Stop', () => view.stop.abort()),
  );
}

function far(searched) {
  return searched ? `Looked through ${count(searched.done)} of ${many(searched.total, 'event')}.` : 'Looking…';
}

function nothing({ state, filter, searched }) {
  if (state === 'searching' || state === 'failed') return null;
  if (state === 'live')
    return empty('Waiting for the next event that fits.', 'It appears here as soon as it is stored.');
  if (state === 'stopped') return empty('Nothing found so far.');
  const set = NAMES.some((name) => filter[name]);
  if (set)
    return empty(
      'No event fits all of these filters.',
      `Types are globs (payin.*), text is found as it reads, in its case. ${searched ? far(searched) : ''} `,
      link('#/events', 'Show every event.'),
    );
  return empty(
    'No event has arrived yet.',
    'Each event would be here from the moment it is stored. To see some: ralio-relay simulate.',
  );
}

/** A table of events, for other views too. */
export function eventTable(rows, fresh = new Set()) {
  return table(
    'Events',
    [
      ['Seq', (event) => eventLink(event.seq), 'right'],
      ['Received', (event) => time(event.received_at), 'when'],
      ['Type', (event) => link(`#/events/${event.seq}`, event.type, { class: 'type' }), 'first'],
      ['State', (event) => [reported(event.state), ' ', flags(event)], 'states'],
      ['About', (event) => about(event.key), 'key'],
      ['Source', (event) => event.source, 'less'],
      ['Size', (event) => bytes(event.size), 'right less'],
    ],
    rows,
    { cls: 'brief', key: (event) => `seq-${event.seq}`, rowClass: (event) => (fresh.has(event.seq) ? 'fresh' : null) },
  );
}
