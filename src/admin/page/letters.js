// Dead letters: what was given up, until a person decides.

import { get } from './api.js';
import { choice, choosing, filterForm, subject } from './choosing.js';
import { ask } from './dialog.js';
import { facts, h, table } from './dom.js';
import { attemptTable } from './event.js';
import { withoutForms } from './mask.js';
import { button, chip, code, empty, eventLink, field, heading, input, link, section, select, state } from './parts.js';
import { live } from './poll.js';
import { time } from './time.js';

const NAMES = ['sink', 'type', 'key', 'event_id', 'last_error', 'since', 'until'];

/** Shows the list, or one of them, in `main` until the signal. */
export function show(main, context) {
  if (context.id) one(main, context);
  else all(main, context);
}

function all(main, { query, signal, sinks, go }) {
  const filter = Object.fromEntries(NAMES.filter((name) => query.get(name)).map((name) => [name, query.get(name)]));
  const view = {
    top: () => [
      heading('Dead letters'),
      filterForm(
        '#/dead-letters',
        go,
        field('Sink', select('sink', filter.sink, [['', 'every'], ...sinks.map((name) => [name, name])])),
        field('Type', input('type', filter.type, { placeholder: 'payin.*' })),
        field('Error holds', input('last_error', filter.last_error, { placeholder: 'HTTP 422' })),
        field('Since', input('since', filter.since, { placeholder: '24h' })),
      ),
    ],
    table: letters,
    empty: () =>
      Object.keys(filter).length
        ? empty('No dead letter fits these filters.', link('#/dead-letters', 'Show all of them.'))
        : empty(
            'No dead letters.',
            'An event that a sink refuses for good, or that fails for longer than give_up_after, would be here until a person retries or discards it.',
          ),
    actions: (list) => [
      button(list.chosen.size ? 'Retry…' : 'Retry all…', () => retry(chosenOf(list))),
      button(list.chosen.size ? 'Discard…' : 'Discard all…', () => discard(chosenOf(list)), { class: 'danger' }),
    ],
  };
  choosing(main, { signal, path: '/dead-letters', plural: 'dead_letters', filter, view });
}

/** What the API takes: there types are a list. */
function chosenOf(list) {
  const about = subject(list, 'dead letters');
  const { type, ...body } = about.body;
  return { ...about, body: { ...body, ...(type && { type: [type] }) } };
}

function letters(list) {
  return table(
    'Dead letters',
    [
      choice(list, (letter) => `Choose dead letter ${letter.id}`),
      ['No.', (letter) => link(`#/dead-letters/${letter.id}`, String(letter.id)), 'right'],
      ['Given up', (letter) => time(letter.died_at)],
      ['Sink', (letter) => letter.sink],
      ['Event', (letter) => eventLink(letter.seq, `#${letter.seq} ${letter.type}`)],
      ['Attempts', (letter) => String(letter.attempts), 'right'],
      ['Why', why, 'wide'],
    ],
    list.rows,
    { key: (letter) => `letter-${letter.id}` },
  );
}

function why({ last_error: error, answer }) {
  return withoutForms(answer ? `${error}: ${answer}` : error);
}

function retry({ body, words }) {
  ask({
    title: `Retry ${words}?`,
    verb: 'Retry',
    reason: 'wanted',
    path: '/dead-letters/retry',
    body,
    text: [
      'They are delivered again at once, then by the sink\u2019s usual schedule. What is refused again comes back here.',
      'The far side recognises by the event id what it has already.',
    ],
  });
}

function discard({ body, words }) {
  ask({
    title: `Discard ${words}?`,
    verb: 'Discard',
    reason: 'needed',
    danger: true,
    path: '/dead-letters/discard',
    body,
    text: 'The sink will not get them any more. The events stay in the inbox, with your reason.',
  });
}

function one(main, { id, signal }) {
  const path = `/dead-letters/${encodeURIComponent(id)}`;
  live(main, signal, 5, () => get(path, null, signal), page);
}

function page(letter) {
  const about = { body: { ids: [letter.id] }, words: `dead letter ${letter.id}` };
  // A replay's letter says nothing of how the event stands by itself, and nobody decides about it.
  const open = letter.now?.state === 'dead_letter';
  const standing = letter.now ? state(letter.now.state) : chip('note', 'given up by a replay');
  return [
    heading(`Dead letter ${letter.id}`, open ? chip('bad', 'waits for a person') : standing),
    h('p', { class: 'lead' }, why(letter)),
    facts(
      ['Sink', link(`#/sinks?name=${encodeURIComponent(letter.sink)}`, letter.sink)],
      ['Event', [eventLink(letter.seq), ' ', letter.type]],
      ['Event id', code(letter.event_id)],
      ['Given up', time(letter.died_at, 'whole')],
      ['Of a replay', letter.replay && link(`#/replays/${letter.replay}`, `replay ${letter.replay}`)],
      ['Decided by', letter.now?.who],
    ),
    open
      ? h(
          'p',
          { class: 'actions' },
          button('Retry…', () => retry(about), { class: 'primary' }),
          button('Discard…', () => discard(about), { class: 'danger' }),
        )
      : null,
    section(
      'Attempts',
      letter.attempts.length
        ? attemptTable(letter.attempts)
        : empty('No attempt was made.', 'Events whose id came with other bytes are held back without one.'),
    ),
  ];
}
