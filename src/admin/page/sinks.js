// Sinks: how far each is, and stopping and going on.

import { get } from './api.js';
import { ask } from './dialog.js';
import { facts, h } from './dom.js';
import { count, many, span } from './format.js';
import { withoutForms } from './mask.js';
import { button, empty, heading, link, state } from './parts.js';
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
    () => get('/sinks', null, signal),
    ({ sinks }) => [
      heading('Sinks'),
      sinks.length
        ? sinks.map((sink) => card(sink, sink.name === chosen))
        : empty(
            'No sink is configured.',
            'A [[sinks]] table in the configuration makes one. Each would be here: state, what waits, and how to pause it.',
          ),
    ],
  );
}

function card(sink, chosen) {
  return h(
    'section',
    { class: chosen ? 'card chosen' : 'card', 'data-key': sink.name, 'aria-label': `Sink ${sink.name}` },
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
      ['Undelivered', count(sink.undelivered)],
      ['Oldest waiting', sink.lag_seconds ? span(sink.lag_seconds) : 'none'],
      ['Parked', sink.parked ? link(`#/parked?sink=${encodeURIComponent(sink.name)}`, count(sink.parked)) : '0'],
      [
        'Dead letters',
        sink.dead_letters
          ? link(`#/dead-letters?sink=${encodeURIComponent(sink.name)}`, count(sink.dead_letters))
          : '0',
      ],
      ['Delivered', count(sink.delivered)],
      ['Last success', lastSuccess(sink)],
      ['Last error', sink.last_error_at && time(sink.last_error_at)],
      ['Next try', sink.next_try && time(sink.next_try)],
      ['Cursor', sink.cursor === null ? 'none yet' : `#${sink.cursor}`],
    ),
    wants(sink),
  );
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
  const replay = link(`#/replays/new?sink=${encodeURIComponent(sink.name)}`, 'Replay…', { class: 'button' });
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
