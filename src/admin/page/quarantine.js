// Quarantine: requests that were refused for their signature, kept in case it was a secret here that was stale.

import { get } from './api.js';
import { bodyPart, bodyState } from './body.js';
import { choice, choosing, filterForm, subject } from './choosing.js';
import { ask } from './dialog.js';
import { facts, h, table } from './dom.js';
import { bytes } from './format.js';
import { headerTable } from './event.js';
import { button, code, empty, field, heading, link, section, select } from './parts.js';
import { live } from './poll.js';
import { time } from './time.js';

const REASONS = {
  missing: ['no signature', 'The request had no signature header.'],
  repeated: ['several signatures', 'There was more than one signature, and they differ.'],
  undecodable: ['signature unreadable', 'The signature is neither hex nor base64 of 32 bytes.'],
  mismatch: ['signature wrong', 'The signature is not that of this body under any secret of the source.'],
};

/** Shows the list, or one of them, in `main` until the signal. */
export function show(main, context) {
  if (context.id) one(main, context);
  else all(main, context);
}

function all(main, { query, signal, sources, go }) {
  const filter = query.get('source') ? { source: query.get('source') } : {};
  const view = {
    top: () => [
      heading('Quarantine'),
      filterForm(
        '#/quarantine',
        go,
        field('Source', select('source', filter.source, [['', 'every'], ...sources.map((name) => [name, name])])),
      ),
    ],
    table: requests,
    empty: () =>
      empty(
        'Nothing in quarantine.',
        'Requests that were refused for their signature would be here. Once a stale secret is replaced, genuine ones are admitted.',
      ),
    actions: (list) => [
      button(list.chosen.size ? 'Admit…' : 'Admit all…', () => admit(subject(list, 'requests'))),
      button(list.chosen.size ? 'Purge…' : 'Purge all…', () => purge(subject(list, 'requests')), { class: 'danger' }),
    ],
  };
  choosing(main, { signal, path: '/quarantine', plural: 'quarantine', filter, view });
}

function requests(list) {
  return table(
    'Quarantined requests',
    [
      choice(list, (request) => `Choose request ${request.id}`),
      ['No.', (request) => link(`#/quarantine/${request.id}`, String(request.id)), 'right'],
      ['Received', (request) => time(request.received_at), 'states'],
      ['Source', (request) => request.source],
      ['Why', (request) => why(request)[0], 'first'],
      ['Answered', (request) => String(request.answer)],
      ['Size', (request) => bytes(request.size), 'right'],
      [
        'SHA-256',
        (request) => code(`${request.body_sha256.slice(0, 16)}..`, { title: request.body_sha256 }),
        'wide less',
      ],
    ],
    list.rows,
    { cls: 'brief', key: (request) => `request-${request.id}` },
  );
}

function why({ reason }) {
  return REASONS[reason] ?? [reason, reason];
}

function admit({ body, words, then, done }) {
  ask({
    then,
    done,
    title: `Admit ${words}?`,
    verb: 'Check and admit',
    reason: 'wanted',
    path: '/quarantine/admit',
    body,
    text: [
      'Each is checked again with the secrets of now. Only what is genuine gets into the inbox, and on to the sinks.',
      'What still does not hold stays here.',
    ],
  });
}

function purge({ body, words, then, done }) {
  ask({
    then,
    done,
    title: `Purge ${words}?`,
    verb: 'Purge',
    reason: 'needed',
    danger: true,
    path: '/quarantine/purge',
    body,
    text: 'They are deleted for good. If one of them was genuine, only Ralio still knows of it.',
  });
}

function one(main, { id, signal, go }) {
  const shown = bodyState();
  const redraw = live(
    main,
    signal,
    30,
    () => get(`/quarantine/${encodeURIComponent(id)}`, null, signal),
    (request) => page(request, shown, redraw, go),
  );
}

function page(request, shown, redraw, go) {
  // Decided, it is not here any more.
  const about = { body: { ids: [request.id] }, words: `request ${request.id}`, then: () => go('#/quarantine') };
  return [
    heading(`Quarantined request ${request.id}`),
    h('p', { class: 'lead' }, why(request)[1]),
    facts(
      ['Received', time(request.received_at, 'whole')],
      ['Source', request.source],
      ['Answered', request.answer === 401 ? '401: Ralio never sends it again' : '503: Ralio sends it again'],
      ['Sent from', code(request.peer)],
      ['SHA-256 of the body', code(request.body_sha256)],
      [
        'Signatures',
        request.signatures?.length ? request.signatures.map((signature) => h('div', null, code(signature))) : 'none',
      ],
    ),
    h(
      'p',
      { class: 'actions' },
      button('Admit…', () => admit(about), { class: 'primary' }),
      button('Purge…', () => purge(about), { class: 'danger' }),
    ),
    section('Body', bodyPart(request, shown, redraw)),
    section('Headers', request.headers?.length ? headerTable(request.headers) : empty('No header was kept.')),
  ];
}
