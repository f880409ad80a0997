// Parked events: what waits for its next attempt at a sink.

import { choice, choosing, filterForm, subject } from './choosing.js';
import { ask } from './dialog.js';
import { h, table } from './dom.js';
import { withoutForms } from './mask.js';
import { about, button, empty, eventLink, field, heading, input, link, select } from './parts.js';
import { time } from './time.js';

const NAMES = ['sink', 'type', 'key', 'event_id', 'last_error'];

/** Shows the list in `main` until the signal. */
export function show(main, { query, signal, sinks, go }) {
  const filter = Object.fromEntries(NAMES.filter((name) => query.get(name)).map((name) => [name, query.get(name)]));
  const view = {
    // One event may be parked for several sinks: its place in the log is its number only within one.
    id: (event) => (filter.sink ? event.seq : `${event.seq} ${event.sink}`),
    top: () => [
      heading('Parked events'),
      filterForm(
        '#/parked',
        go,
        field('Sink', select('sink', filter.sink, [['', 'every'], ...sinks.map((name) => [name, name])])),
        field('Type', input('type', filter.type, { placeholder: 'payin.*' })),
        field('Error holds', input('last_error', filter.last_error, { placeholder: 'HTTP 500' })),
        field('Key', input('key', filter.key)),
      ),
    ],
    table: (list) => events(list, filter.sink),
    empty: () =>
      Object.keys(filter).length
        ? empty('No parked event fits these filters.', link('#/parked', 'Show all of them.'))
        : empty(
            'No event is parked.',
            'An event whose attempt failed would be here until its next attempt, with the later events of its key.',
          ),
    actions: (list) =>
      filter.sink
        ? [
            button(list.chosen.size ? 'Retry now…' : 'Retry all now…', () => retry(chosenOf(list, filter.sink))),
            button(list.chosen.size ? 'Discard…' : 'Discard all…', () => discard(chosenOf(list, filter.sink)), {
              class: 'danger',
            }),
          ]
        : h('span', { class: 'dim' }, 'Filter by a sink to retry or discard.'),
  };
  choosing(main, { signal, path: '/parked', plural: 'parked', filter, view });
}

/** What the API takes: places in the log at one sink, and types as a list. */
function chosenOf(list, sink) {
  const { body, words, done } = subject(list, 'parked events');
  const { ids, type, ...rest } = body;
  return { words, sink, done, body: { ...rest, ...(ids && { seqs: ids, sink }), ...(type && { type: [type] }) } };
}

function events(list, sink) {
  return table(
    'Parked events',
    [
      sink && choice(list, (event) => `Choose parked event ${event.seq}`),
      ['Event', (event) => eventLink(event.seq, `#${event.seq} ${event.type}`), 'first'],
      !sink && ['Sink', (event) => link(`#/parked?sink=${encodeURIComponent(event.sink)}`, event.sink)],
      ['About', (event) => about(event.key), 'key'],
      ['Attempts', (event) => String(event.attempts), 'right less'],
      ['Next attempt', (event) => time(event.next_attempt), 'states'],
      ['Why', why, 'wide'],
    ],
    list.rows,
    { cls: 'brief', key: (event) => `parked-${event.sink}-${event.seq}` },
  );
}

function why(event) {
  if (event.waits_behind) return 'waits behind an earlier event of its key';
  return event.last_error === null ? '' : withoutForms(event.last_error);
}

function retry({ body, words, sink, done }) {
  ask({
    done,
    title: `Retry ${words} of ${sink} now?`,
    verb: 'Retry',
    reason: 'wanted',
    path: '/parked/retry',
    body,
    text: 'They are due now, whatever their next attempt was due for. What fails again is parked again.',
  });
}

function discard({ body, words, sink, done }) {
  ask({
    done,
    title: `Discard ${words} of ${sink}?`,
    verb: 'Discard',
    reason: 'needed',
    danger: true,
    path: '/parked/discard',
    body,
    text: 'The sink will not get them any more. The events stay in the inbox, with your reason.',
  });
}
