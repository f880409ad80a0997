// Sinks: how far each is, and stopping and going on.

import { get } from './api.js';
import { ask } from './dialog.js';
import { facts, h, table } from './dom.js';
import { count, many, span } from './format.js';
import { withoutForms } from './mask.js';
import { button, counted, empty, eventLink, goButton, heading, state } from './parts.js';
import { live } from './poll.js';
import { time } from './time.js';

const SECONDS = 4;

/** Shows the view in `main` until the signal. */
export function show(main, { query, signal }) {
  const chosen = query.get('name');
  live(
    main,
    signal,
    SECONDS,
    async () => {
      const { sinks } = await get('/sinks', null, signal);
      const isThere = sinks.some((sink) => sink.name === chosen);
      const detail = isThere ? await get(`/sinks/${encodeURIComponent(chosen)}`, null, signal) : null;
      return { sinks, detail };
    },
    ({ sinks, detail }) => [
      heading('Sinks'),
      sinks.length
        ? sinks.map((sink) => card(sink, sink.name === chosen ? detail : null))
        : empty(
            'No sink is configured.',
            'A [[sinks]] table in the configuration makes one. Each would be here: state, what waits, and how to pause it.',
          ),
    ],
  );
}

/** `detail` where this is the sink that somebody has chosen. */
function card(sink, detail) {
  return h(
    'section',
    { class: detail ? 'card chosen' : 'card', 'data-key': sink.name, 'aria-label': `Sink ${sink.name}` },
    h(
      'div',
      { class: 'line-of' },
      h('h2', null, sink.name),
      h('span', { class: 'dim' }, sink.type ?? 'not in the configuration'),
      state(sink.state),
      sink.since ? h('span', { class: 'dim' }, 'since ', time(sink.since)) : null,
      h('span', { class: 'push' }),
      actions(sink),
    ),
    h('p', null, withoutForms(sink.words)),
    trouble(sink),
    facts(
      ['Undelivered', counted(sink.undelivered, ofSink(sink))],
      ['Oldest waiting', sink.lag_seconds ? span(sink.lag_seconds) : 'none'],
      ['Parked', counted(sink.parked, listOf('parked', sink))],
      ['Dead letters', counted(sink.dead_letters, listOf('dead-letters', sink))],
      ['Delivered', count(sink.delivered)],
      ['Last success', lastSuccess(sink)],
      ['Last error', sink.last_error_at && time(sink.last_error_at)],
      ['Next try', sink.next_try && time(sink.next_try)],
      ['Cursor', sink.cursor === null ? 'none yet' : `#${sink.cursor}`],
    ),
    wants(sink),
    detail && revisions(detail),
    detail && waiting(detail),
  );
}

/** What it has still to get, by type, with the event that has waited longest. */
function waiting(detail) {
  const { oldest, undelivered_by_type: types, undelivered_is_whole: isWhole } = detail;
  if (!oldest) return null;
  const error = oldest.last_error && `; the last attempt: ${withoutForms(oldest.last_error)}`;
  const parked = (type) => `${listOf('parked', detail)}&type=${encodeURIComponent(type)}`;
  return [
    h(
      'p',
      null,
      'Waiting longest: ',
      eventLink(oldest.seq, `#${oldest.seq} ${oldest.type}`),
      ', received ',
      time(oldest.received_at),
      error,
    ),
    isWhole ? null : h('p', { class: 'dim' }, 'There are more than these: only the oldest were looked at.'),
    table(
      `What ${detail.name} has still to get`,
      [
        ['Type', ({ type }) => type, 'first'],
        ['Parked', ({ type, parked: number }) => counted(number, parked(type)), 'right'],
        ['After the cursor', ({ waiting: number }) => count(number), 'right'],
      ],
      types,
    ),
  ];
}

/** Where it has delivered to, and what it wanted, from when on. */
function revisions({ revisions: all }) {
  if (!all?.length) return null;
  return h(
    'details',
    null,
    h('summary', null, many(all.length, 'destination')),
    table(
      'Destinations',
      [
        ['No.', ({ revision }) => String(revision), 'right'],
        ['Since', ({ since }) => time(since)],
        ['From event', ({ from_seq: seq }) => `#${seq}`, 'right'],
        ['Type', ({ type }) => type],
        ['Where to', ({ target }) => target, 'wide'],
        ['Route', ({ route }) => route, 'wide'],
      ],
      all,
    ),
  );
}

/** Where a sink is shown, with what it has still to get. */
export function ofSink(sink) {
  return `#/sinks?name=${encodeURIComponent(sink.name)}`;
}

/** Where what a number of a sink counts is listed. */
export function listOf(view, sink) {
  return `#/${view}?sink=${encodeURIComponent(sink.name)}`;
}

/** Whether its last error is about something that still waits. */
export function inTrouble(sink) {
  return Boolean(sink.last_error) && (sink.failures > 0 || sink.parked > 0 || sink.state === 'unavailable');
}

/** What its words do not say already. */
function trouble(sink) {
  if (!inTrouble(sink) || sink.words.includes(sink.last_error)) return null;
  return h('p', { class: 'error' }, withoutForms(sink.last_error));
}

function lastSuccess(sink) {
  if (sink.last_success_at) return time(sink.last_success_at);
  return sink.delivered ? 'not recorded' : 'none yet';
}

function wants(sink) {
  if (!sink.config) return null;
  const { events, filter, ordering, target } = sink.config;
  const types = events.length ? events.join(', ') : 'every type';
  return h(
    'p',
    { class: 'dim' },
    `Delivers to ${target}; wants ${types === '*' ? 'every type' : types}`,
    filter ? [', where ', h('code', null, filter)] : null,
    `; ${ordering === 'none' ? 'in any order' : 'in order for each key'}.`,
  );
}

function actions(sink) {
  if (sink.state === 'removed' || sink.state === 'new') return null;
  const replay = goButton(`#/replays/new?sink=${encodeURIComponent(sink.name)}`, 'Replay…');
  if (sink.state === 'paused')
    return h(
      'span',
      { class: 'actions' },
      button('Resume', () => resume(sink), { class: 'primary' }),
      replay,
    );
  return h(
    'span',
    { class: 'actions' },
    button('Pause', () => pause(sink)),
    button('Try now', () => tryNow(sink)),
    replay,
  );
}

function tryNow(sink) {
  ask({
    title: `Try ${sink.name} now?`,
    verb: 'Try',
    reason: 'wanted',
    path: `/sinks/${encodeURIComponent(sink.name)}/try`,
    body: {},
    text: 'What waits for it is delivered now, whatever the next attempt was due for.',
  });
}

function pause(sink) {
  ask({
    title: `Pause ${sink.name}?`,
    verb: 'Pause',
    reason: 'wanted',
    path: `/sinks/${encodeURIComponent(sink.name)}/pause`,
    body: {},
    text: [
      'Nothing more is delivered to it, not even by replays, until somebody resumes it, also after a restart.',
      'Receiving goes on, and nothing is lost.',
    ],
  });
}

function resume(sink) {
  ask({
    title: `Resume ${sink.name}?`,
    verb: 'Resume',
    reason: 'wanted',
    path: `/sinks/${encodeURIComponent(sink.name)}/resume`,
    body: {},
    text: `It goes on where it stood still: ${many(sink.undelivered, 'event')} to go.`,
  });
}
