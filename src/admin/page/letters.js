// Dead letters: what was given up, until a person decides.

import { get } from './api.js';
import { choice, choosing, filterForm, subject } from './choosing.js';
import { ask } from './dialog.js';
import { facts, h, table } from './dom.js';
import { attemptTable } from './event.js';
import { withoutForms } from './mask.js';
import {
  about,
  button,
  chip,
  code,
  empty,
  eventLink,
  field,
  heading,
  input,
  link,
  section,
  select,
  state,
  tabs,
} from './parts.js';
import { live } from './poll.js';
import { time } from './time.js';

const NAMES = ['sink', 'type', 'key', 'event_id', 'last_error', 'since', 'until'];

// What a person has decided, as the API names it, and how it is shown.
const STATES = { open: ['Open', 'bad'], retried: ['Retried', 'note'], discarded: ['Discarded', 'note'], all: ['All'] };

/** Shows the list, or one of them, in `main` until the signal. */
export function show(main, context) {
  if (context.id) one(main, context);
  else all(main, context);
}

function all(main, { query, signal, sinks, go }) {
  const asked = STATES[query.get('state')] ? query.get('state') : 'open';
  const narrowing = Object.fromEntries(NAMES.filter((name) => query.get(name)).map((name) => [name, query.get(name)]));
  const isOpen = asked === 'open';
  const filter = isOpen ? narrowing : { ...narrowing, state: asked };
  const view = {
    top: () => [
      heading('Dead letters'),
      tabs(
        'By what was decided',
        STATES[asked][0],
        Object.entries(STATES).map(([state, [words]]) => [where(state, narrowing), words]),
      ),
      filterForm(
        '#/dead-letters',
        // The form is of the tab that is open.
        (base, values) => go(base, isOpen ? values : { ...values, state: asked }),
        field('Sink', select('sink', filter.sink, [['', 'every'], ...sinks.map((name) => [name, name])])),
        field('Type', input('type', filter.type, { placeholder: 'payin.*' })),
        field('Error holds', input('last_error', filter.last_error, { placeholder: 'HTTP 422' })),
        field('Since', input('since', filter.since, { placeholder: '24h' })),
      ),
    ],
    table: (list) => (isOpen ? letters(list) : decidedLetters(list)),
    empty: () => none(asked, narrowing),
    actions:
      isOpen &&
      ((list) => [
        button(list.chosen.size ? 'Retry…' : 'Retry all…', () => retry(chosenOf(list))),
        button(list.chosen.size ? 'Discard…' : 'Discard all…', () => discard(chosenOf(list)), { class: 'danger' }),
      ]),
  };
  choosing(main, { signal, path: '/dead-letters', plural: 'dead_letters', filter, view });
}

/** The same list under another tab. */
function where(state, narrowing) {
  const sought = new URLSearchParams(state === 'open' ? narrowing : { ...narrowing, state });
  return `#/dead-letters${sought.size ? `?${sought}` : ''}`;
}

function none(asked, narrowing) {
  if (Object.keys(narrowing).length)
    return empty('No dead letter fits these filters.', link(where(asked, {}), 'Show all of them.'));
  if (asked === 'retried')
    return empty('No dead letter was ever retried.', 'Each would be here: who retried it, when and why.');
  if (asked === 'discarded')
    return empty('No dead letter was ever discarded.', 'Each would be here: who discarded it, when and why.');
  return empty(
    'No dead letters.',
    'An event that a sink refuses for good, or that fails for longer than give_up_after, would be here until a person retries or discards it.',
  );
}

/** What the API takes: there types are a list. */
function chosenOf(list) {
  const chosen = subject(list, 'dead letters');
  const { type, ...body } = chosen.body;
  return { ...chosen, body: { ...body, ...(type && { type: [type] }) } };
}

function letters(list) {
  return letterTable(list.rows, [
    choice(list, (letter) => `Choose dead letter ${letter.id}`),
    NUMBER,
    ['Given up', (letter) => time(letter.died_at), 'states'],
    ...what(list.rows),
    ['Attempts', (letter) => String(letter.attempts), 'right less'],
    ['Why', why, 'wide'],
  ]);
}

/** Those decided about: the decision comes before the rest, which their own pages tell in full. */
function decidedLetters({ rows }) {
  return letterTable(rows, [
    NUMBER,
    ['State', decision, 'states'],
    ['Decided', decided, 'wide'],
    ...what(rows),
    ['Why', why, 'wide'],
  ]);
}

const NUMBER = ['No.', (letter) => link(`#/dead-letters/${letter.id}`, String(letter.id)), 'right'];

/** The columns that say what was not delivered, and where to. */
function what(rows) {
  const has = (name) => rows.some((letter) => letter[name]);
  return [
    ['Sink', (letter) => letter.sink],
    ['Event', (letter) => eventLink(letter.seq, `#${letter.seq} ${letter.type}`), 'first'],
    has('amount') && ['Amount', (letter) => letter.amount ?? '\u2013', 'right'],
    has('key') && ['About', (letter) => about(letter.key), 'key'],
  ];
}

function letterTable(rows, columns) {
  return table('Dead letters', columns, rows, { cls: 'brief', key: (letter) => `letter-${letter.id}` });
}

function decision({ state }) {
  const [words, level] = STATES[state] ?? [state, 'note'];
  return chip(level, words.toLowerCase());
}

/** Who has decided, when and why. */
function decided({ decided_at: at, decided_by: by, decided_reason: reason, record }) {
  if (!at) return '\u2013';
  const number = record && [' ', link(`#/record/${record}`, `record ${record}`)];
  return [time(at), ' by ', by ?? 'nobody known', reason ? `: ${reason}` : null, number];
}

function why({ last_error: error, answer }) {
  return withoutForms(answer ? `${error}: ${answer}` : error);
}

/** Why it was given up without an attempt, as far as its error tells. */
function unattempted({ last_error: error }) {
  if (error.startsWith('the stored body is not what came in'))
    return ['An event whose body has been altered since it came in is held back without one.'];
  if (error.startsWith('conflict')) return ['Events whose id came with other bytes are held back without one.'];
  return [];
}

function retry({ body, words, done }) {
  ask({
    done,
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

function discard({ body, words, done }) {
  ask({
    done,
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
  const chosen = { body: { ids: [letter.id] }, words: `dead letter ${letter.id}` };
  // A replay's letter says nothing of how the event stands by itself, and nobody decides about it.
  const open = letter.now?.state === 'dead_letter' && (letter.state ?? 'open') === 'open';
  const standing = letter.now ? state(letter.now.state) : chip('note', 'given up by a replay');
  return [
    heading(
      `Dead letter ${letter.id}`,
      open ? chip('bad', 'waits for a person') : letter.decided_at ? decision(letter) : standing,
    ),
    h('p', { class: 'lead' }, why(letter)),
    facts(
      ['Sink', link(`#/sinks?name=${encodeURIComponent(letter.sink)}`, letter.sink)],
      ['Event', [eventLink(letter.seq), ' ', letter.type]],
      ['About', about(letter.key)],
      ['Event id', code(letter.event_id)],
      ['Given up', time(letter.died_at, 'whole')],
      ['Of a replay', letter.replay && link(`#/replays/${letter.replay}`, `replay ${letter.replay}`)],
      ['Decided', letter.decided_at ? decided(letter) : (letter.now?.who ?? null)],
      ['At the sink now', letter.decided_at && letter.now && state(letter.now.state)],
    ),
    open
      ? h(
          'p',
          { class: 'actions' },
          button('Retry…', () => retry(chosen), { class: 'primary' }),
          button('Discard…', () => discard(chosen), { class: 'danger' }),
        )
      : null,
    section(
      'Attempts',
      letter.attempts.length ? attemptTable(letter.attempts) : empty('No attempt was made.', ...unattempted(letter)),
    ),
  ];
}
