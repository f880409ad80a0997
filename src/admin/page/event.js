// One event: what became of it, what belongs to it, and what it says.

import { get } from './api.js';
import { bodyPart, bodyState } from './body.js';
import { facts, h, table } from './dom.js';
import { bytes, latency, many, span } from './format.js';
import { withoutForms } from './mask.js';
import { copy } from './messages.js';
import { about, button, chip, code, flags, goButton, heading, link, reported, section, state } from './parts.js';
import { live } from './poll.js';
import { time } from './time.js';

const SECONDS = 5;

/** Shows the view in `main` until the signal. */
export function show(main, { id, signal }) {
  const shown = new Map();
  const redraw = live(
    main,
    signal,
    SECONDS,
    () => get(`/events/${encodeURIComponent(id)}`, null, signal),
    ({ events }) => [
      events.length > 1 &&
        h(
          'p',
          { class: 'notice' },
          `${many(events.length, 'event')} have this id or this number: the same id came with other bytes or at another source, or an id is the number of another event.`,
        ),
      events.map((event) => {
        if (!shown.has(event.seq)) shown.set(event.seq, bodyState());
        return h('article', { 'data-key': `event-${event.seq}` }, page(event, shown.get(event.seq), redraw));
      }),
    ],
  );
}

function page(event, shown, redraw) {
  const replay = `#/replays/new?from_seq=${event.seq}&to_seq=${event.seq}`;
  return [
    heading([event.type, ' ', h('span', { class: 'dim' }, `#${event.seq}`)], reported(event.state), flags(event)),
    inShort(event),
    facts(
      ['Received', time(event.received_at, 'whole')],
      ['Sent by Ralio', event.time ? time(event.time, 'whole') : 'time missing: it came with none that could be read'],
      ['About', about(event.key)],
      ['Event id', code(event.id)],
      ['Source', [event.source, ', signed with ', secret(event)]],
      ['Sent from', event.peer && code(event.peer)],
      ['Admitted', event.admission && admission(event.admission)],
      ['Category', event.category],
      ['Arrivals', event.arrivals > 1 ? `${event.arrivals}, stored once` : '1'],
    ),
    section('At each sink', sinks(event), h('p', { class: 'actions' }, goButton(replay, 'Replay…'))),
    section('Everything about the same order, session or account', timeline(event)),
    section(
      'Body',
      bodyPart(event, shown, redraw, [
        button('Copy as curl', () => copy(curl(event.seq), 'A curl command (put the token into $TOKEN)')),
      ]),
    ),
    section('Evidence', evidence(event)),
  ];
}

/** Which secret signed it: a fingerprint, or for older events only the place that it had in the configuration. */
function secret({ secret: fingerprint, secret_slot: slot }) {
  if (fingerprint) return ['secret ', code(fingerprint)];
  return fingerprint === null ? `a secret that is not known (slot ${slot} at that time)` : `secret ${slot}`;
}

function admission({ at, who, record }) {
  return [
    time(at, 'whole'),
    who ? ` by ${who}` : null,
    record ? [', ', link(`#/record/${record}`, `record ${record}`)] : null,
  ];
}

/** A command that fetches the body; the token stays a variable of the shell. */
function curl(seq) {
  const quoted = `'${`${window.location.origin}/api/events/${seq}/body`.replaceAll("'", "'\\''")}'`;
  return `curl --fail --silent --show-error --globoff -H "Authorization: Bearer $TOKEN" ${quoted}`;
}

const AMOUNTS = {
  receivedAmount: 'received',
  debitedAmount: 'debited',
  fees: 'fees',
  amountAfterFees: 'after fees',
  creditedAmount: 'credited',
};

function inShort(event) {
  const { view, amounts, conflict, repeated_members: repeated, body_matches: matches } = event;
  const failure =
    view?.failure &&
    [view.failure.code, view.failure.reason]
      .filter(Boolean)
      .map((text) => withoutForms(String(text)))
      .join(': ');
  return [
    alteration(event),
    // Those of a body that is another than the signed one are nobody's.
    amounts.length && matches !== false
      ? h(
          'p',
          { class: 'amounts' },
          amounts.map(({ name, text }) => h('span', null, h('b', null, text), ` ${AMOUNTS[name] ?? name}`)),
        )
      : null,
    failure ? h('p', null, chip('bad', 'failed'), ` ${failure}`) : null,
    repeated?.length
      ? h(
          'p',
          { class: 'notice' },
          `It gives members more than once: ${repeated.map(withoutForms).join(', ')}. The relay reads the first of each; other readers may take the last.`,
        )
      : null,
    conflict
      ? h(
          'p',
          { class: 'notice' },
          'The same id came with other bytes. This one is not forwarded: compare the two, then retry or discard its dead letters.',
        )
      : null,
  ];
}

/** Whether its body is another than the one that was signed, or was so for a while. */
function alteration({ body_matches: matches, mismatch_found_at: found }) {
  if (matches === false)
    return h(
      'div',
      { class: 'problem', role: 'alert' },
      h('strong', null, 'The body that is kept is not the one that was signed.'),
      h(
        'p',
        null,
        'Its SHA-256 is another than that of the delivery, so somebody or something has changed the inbox. Nothing is delivered of it. Look for the true body in a backup.',
      ),
      found ? h('p', { class: 'dim' }, 'Found ', time(found, 'whole')) : null,
    );
  if (matches && found)
    return h('p', { class: 'notice' }, 'Its body was found altered at ', time(found), ', and is as it came in again.');
  return null;
}

function sinks(event) {
  if (!event.sinks.length)
    return h('p', { class: 'dim' }, 'No sink is configured; each would be here with what became of the event.');
  return event.sinks.map((pair) => {
    const attempts = event.attempts.filter((attempt) => attempt.sink === pair.sink);
    return h(
      'div',
      { class: 'sink', 'data-key': pair.forgotten_at ? `${pair.sink} ${pair.forgotten_at}` : pair.sink },
      h(
        'div',
        { class: 'line-of' },
        h('h3', null, pair.forgotten_at ? pair.sink : link(`#/sinks?name=${encodeURIComponent(pair.sink)}`, pair.sink)),
        pair.forgotten_at ? h('span', { class: 'dim' }, 'forgotten ', time(pair.forgotten_at)) : null,
        state(pair.state),
        outcome(pair),
      ),
      attempts.length ? attemptTable(attempts) : h('p', { class: 'dim' }, 'No attempt.'),
    );
  });
}

function outcome(pair) {
  const parts = [
    pair.at && !pair.route && [time(pair.at)],
    pair.receipt && [`receipt: ${withoutForms(pair.receipt)}`],
    pair.route && [`by the route ${pair.route}, in force since `, time(pair.at)],
    pair.next_attempt && ['next attempt ', time(pair.next_attempt)],
    pair.reason && [withoutForms(pair.reason)],
    pair.who && [`by ${pair.who}`],
    pair.dead_letter && [link(`#/dead-letters/${pair.dead_letter}`, `dead letter ${pair.dead_letter}`)],
  ];
  return h(
    'span',
    { class: 'outcome' },
    parts.filter(Boolean).map((part) => h('span', null, part)),
  );
}

function numbered({ n, replay }) {
  return replay ? link(`#/replays/${replay}`, `${n} of replay ${replay}`) : String(n);
}

function said({ note, answer }) {
  return withoutForms(answer ? `${note}: ${answer}` : note) || '\u2013';
}

/** Attempts, for other views too. */
export function attemptTable(attempts) {
  return table(
    'Attempts',
    [
      ['Attempt', numbered],
      ['At', (attempt) => time(attempt.at)],
      ['Outcome', (attempt) => state(attempt.outcome)],
      ['Took', (attempt) => latency(attempt.latency_ms), 'right'],
      attempts.some((attempt) => attempt.target) && ['Where to', (attempt) => attempt.target ?? '\u2013', 'wide'],
      ['What the far side said', said, 'wide'],
    ],
    attempts,
  );
}

function timeline(event) {
  let before = null;
  return h(
    'ol',
    { class: 'timeline' },
    event.lifecycle.map((step) => {
      const later = before === null ? null : (Date.parse(step.received_at) - before) / 1000;
      before = Date.parse(step.received_at);
      const here = step.seq === event.seq;
      return h(
        'li',
        { 'aria-current': here ? 'true' : null, 'data-key': String(step.seq) },
        h(
          'span',
          { class: 'when' },
          time(step.received_at),
          later === null ? null : h('span', { class: 'dim' }, later < 1 ? 'at once' : `${span(later)} later`),
        ),
        h(
          'span',
          { class: 'what' },
          here ? h('strong', null, step.type) : link(`#/events/${step.seq}`, step.type),
          ' ',
          reported(step.state),
          ' ',
          flags(step),
          here ? h('span', { class: 'dim' }, ' this event') : null,
        ),
      );
    }),
  );
}

function evidence(event) {
  return [
    facts(
      ['SHA-256 of the body', code(event.body_sha256)],
      ['Signature as received', code(event.signature)],
      ['Size', bytes(event.size)],
    ),
    event.headers?.length
      ? h('details', null, h('summary', null, many(event.headers.length, 'header')), headerTable(event.headers))
      : null,
  ];
}

/** Headers as received, for other views too. */
export function headerTable(headers) {
  return table(
    'Headers',
    [
      ['Header', ([name]) => code(name)],
      ['Value', ([, value]) => code(withoutForms(value)), 'wide'],
    ],
    headers,
  );
}
