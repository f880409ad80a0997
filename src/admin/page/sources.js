// Sources: the registered endpoints, and which of their secrets signed what.

import { get } from './api.js';
import { facts, h, table } from './dom.js';
import { count } from './format.js';
import { chip, empty, eventLink, heading, link } from './parts.js';
import { live } from './poll.js';
import { age, time } from './time.js';

const SECONDS = 10;

/** Shows the view in `main` until the signal. */
export function show(main, { signal }) {
  live(
    main,
    signal,
    SECONDS,
    () => get('/sources', null, signal),
    ({ sources }) => [
      heading('Sources'),
      h(
        'p',
        { class: 'dim' },
        'Rotating a secret: put the new one before the old one. Once nothing is signed with the old one any more, take it out.',
      ),
      sources.length
        ? sources.map(card)
        : empty(
            'No source is configured.',
            'Each endpoint that is registered in the Ralio portal would be here, with its secrets\u2019 use.',
          ),
    ],
  );
}

function card(source) {
  return h(
    'section',
    { class: 'card', 'data-key': source.name, 'aria-label': `Source ${source.name}` },
    h('div', { class: 'line-of' }, h('h2', null, source.name), h('code', null, source.path)),
    facts(
      ['Last event', source.last_event_at ? time(source.last_event_at) : 'never'],
      ['Events', link(`#/events?source=${encodeURIComponent(source.name)}`, count(source.events))],
      [
        'A bad signature gets',
        source.on_bad_signature === 'retry' ? '503, so that Ralio sends again' : '401 once it is in quarantine, else 503',
      ],
    ),
    table(
      `Secrets of ${source.name}`,
      [
        ['Secret', (secret) => `slot ${secret.slot}`],
        ['Use', use],
        ['Signed', (secret) => count(secret.events), 'right'],
        ['Last used', (secret) => (secret.last_used_at ? time(secret.last_used_at) : 'never')],
        ['For event', (secret) => (secret.last_used_seq ? eventLink(secret.last_used_seq) : '\u2013')],
        ['In use since', (secret) => time(secret.in_use_since)],
      ],
      source.secrets,
    ),
  );
}

function use(secret) {
  if (!secret.last_used_at) return chip('note', 'never used');
  const idle = age(secret.last_used_at) > 24 * 3600;
  return idle ? chip('note', 'not used for a day') : chip('ok', 'used');
}
