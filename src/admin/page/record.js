// The record: who did what, about what, when and why.

import { get } from './api.js';
import { filterForm } from './choosing.js';
import { facts, h, paint, table } from './dom.js';
import { count, many, TASKS, taskWords } from './format.js';
import {
  button,
  code,
  empty,
  eventLink,
  field,
  heading,
  input,
  link,
  problem,
  progress,
  section,
  select,
  state,
} from './parts.js';
import { live, poll, told } from './poll.js';
import { time, withMoments } from './time.js';

const SECONDS = 5;
const PAGE = 50;
const NAMES = ['kind', 'by', 'since', 'until'];

/** Shows the list, or one entry, in `main` until the signal. */
export function show(main, { id, query, signal, go }) {
  if (id) live(main, signal, SECONDS, () => get(`/record/${encodeURIComponent(id)}`, null, signal), page);
  else all(main, query, signal, go);
}

function all(main, query, signal, go) {
  const filter = Object.fromEntries(NAMES.filter((name) => query.get(name)).map((name) => [name, query.get(name)]));
  const list = { entries: null, next: null, pages: 1, error: null };
  const more = () => {
    list.pages += 1;
    window.dispatchEvent(new Event('changed'));
  };
  const draw = () =>
    paint(
      main,
      heading('Record'),
      h(
        'p',
        { class: 'dim' },
        'Everything that people have asked for, here or on the command line, and what the relay did by itself. Nothing is ever taken out.',
      ),
      form(filter, go),
      list.error && problem(list.error, { old: list.entries !== null }),
      list.entries && (list.entries.length ? entries(list.entries) : none(filter, list.next)),
      list.next && h('p', { class: 'after' }, button('Show more', more)),
    );
  poll(signal, SECONDS, async () => {
    try {
      Object.assign(list, await load(filter, list.pages, signal), { error: null });
    } catch (error) {
      if (signal.aborted) return;
      list.error = told(error);
    }
    main.removeAttribute('aria-busy');
    draw();
  });
}

function form(filter, go) {
  const kinds = [['', 'everything'], ...Object.entries(TASKS)];
  return filterForm(
    '#/record',
    go,
    field('What', select('kind', filter.kind, kinds)),
    field('Who', input('by', filter.by, { placeholder: 'a name, or a part of it' })),
    field('Since', input('since', filter.since, { placeholder: '24h, 7d, 2026-01-31' })),
    field('Until', input('until', filter.until, { placeholder: '1h, 2026-01-31' })),
  );
}

function none(filter, next) {
  if (next) return empty('Nothing found so far.', 'There is more to look through.');
  if (Object.keys(filter).length)
    return empty('Nothing in the record fits these filters.', link('#/record', 'Show all of it.'));
  return empty(
    'Nobody has asked for anything yet.',
    'Pauses, retries, discards, admissions and replays would be here: who, when, why, and what came of it.',
  );
}

async function load(filter, pages, signal) {
  const entries = [];
  const sought = withMoments(filter);
  let next = null;
  for (let page = 0; page < pages; page += 1) {
    const answer = await get('/record', { ...sought, limit: PAGE, cursor: next }, signal);
    entries.push(...answer.record);
    next = answer.next;
    if (!next) break;
  }
  return { entries, next };
}

function entries(rows) {
  return table(
    'Record',
    [
      ['No.', (entry) => link(`#/record/${entry.id}`, String(entry.id)), 'right'],
      ['When', (entry) => time(entry.created_at)],
      ['Who', (entry) => entry.who],
      ['What', what, 'first'],
      ['State', (entry) => state(entry.state), 'states'],
      ['Reason', (entry) => entry.reason || '\u2013', 'wide'],
      ['What came of it', (entry) => entry.message || tally(entry), 'wide'],
    ],
    rows,
    { cls: 'brief', key: (entry) => `entry-${entry.id}` },
  );
}

/** What was done, and about what. */
function what({ kind, about, sink }) {
  const narrow = about || sink;
  return [taskWords(kind), narrow ? [' ', h('span', { class: 'dim' }, narrow)] : null];
}

function tally(entry) {
  const total = entry.total ? ` of ${count(entry.total)}` : '';
  return entry.done || entry.failed
    ? `${count(entry.done)}${total} done${entry.failed ? `, ${count(entry.failed)} failed` : ''}`
    : '\u2013';
}

function page(entry) {
  return [
    heading(`Record ${entry.id}: ${taskWords(entry.kind)}`, state(entry.state)),
    entry.message ? h('p', { class: 'lead' }, entry.message) : null,
    facts(
      ['Who', entry.who],
      ['Reason', entry.reason || 'none given'],
      ['About', entry.about || null],
      ['Sink', entry.sink && link(`#/sinks?name=${encodeURIComponent(entry.sink)}`, entry.sink)],
      ['Asked for', time(entry.created_at, 'whole')],
      ['Ended', entry.ended_at ? time(entry.ended_at, 'whole') : 'not yet'],
      ['Done', count(entry.done)],
      ['Failed', count(entry.failed)],
      ['Of', entry.total === null ? 'not counted' : count(entry.total)],
    ),
    entry.ended_at || !entry.total
      ? null
      : h('p', null, progress(`Progress of record ${entry.id}`, entry.done + entry.failed, entry.total)),
    entry.kind === 'replay' ? h('p', null, link(`#/replays/${entry.id}`, 'This replay')) : null,
    items(entry),
  ];
}

/** What was decided about, one by one. */
function items({ kind, items: all, items_total: total }) {
  if (!all.length) return null;
  const isOfQuarantine = kind === 'admit' || kind === 'purge';
  const has = (name) => all.some((item) => item[name] !== null);
  const number = ({ number: n }) =>
    n === null || isOfQuarantine ? String(n ?? '\u2013') : link(`#/dead-letters/${n}`, String(n));
  return section(
    'What it was about',
    total > all.length ? h('p', { class: 'dim' }, `The first ${count(all.length)} of ${many(total, 'item')}.`) : null,
    table(
      'What it was about',
      [
        has('number') && [isOfQuarantine ? 'Request' : 'Dead letter', number, 'right'],
        has('seq') && [
          'Event',
          ({ seq, type }) => (seq === null ? '\u2013' : eventLink(seq, `#${seq} ${type ?? ''}`)),
          'first',
        ],
        has('event_id') && ['Event id', ({ event_id: id }) => (id === null ? '\u2013' : code(id)), 'key'],
        has('sink') && ['Sink', ({ sink }) => sink ?? '\u2013'],
        has('body_sha256') && [
          'SHA-256 of the body',
          ({ body_sha256: digest }) => (digest ? code(digest) : '\u2013'),
          'wide',
        ],
      ],
      all,
      { cls: 'brief' },
    ),
  );
}
