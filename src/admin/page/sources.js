// Sources: the registered endpoints, and which of their secrets signed what.

import { get } from './api.js';
import { facts, h, table } from './dom.js';
import { many } from './format.js';
import { chip, code, counted, empty, eventLink, heading } from './parts.js';
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
      ['Events', counted(source.events, `#/events?source=${encodeURIComponent(source.name)}`)],
      [
        'A bad signature gets',
        source.on_bad_signature === 'retry'
          ? '503, so that Ralio sends again'
          : '401 once it is in quarantine, else 503',
      ],
    ),
    table(
      `Secrets of ${source.name}`,
      [
        ['Secret', name, 'first'],
        ['Use', use, 'states'],
        ['Signed', (secret) => many(secret.events, 'event'), 'right'],
        ['First', (secret) => (secret.first_used_at ? time(secret.first_used_at) : '\u2013'), 'less'],
        ['Last', (secret) => (secret.last_used_at ? time(secret.last_used_at) : 'never')],
        ['For event', (secret) => (secret.last_seq ? eventLink(secret.last_seq) : '\u2013'), 'less'],
        ['In use since', (secret) => time(secret.in_use_since), 'less'],
      ],
      secrets(source),
      { cls: 'brief' },
    ),
  );
}

/** Those of the configuration, in its order, and then those that signed something before. */
function secrets({ secrets: configured, signed_with: signed = [] }) {
  const known = configured.map((secret) => {
    const { slot, fingerprint, in_use_since } = secret;
    // Without a fingerprint only the place is known, and what it signed counts for whatever stood there.
    if (!fingerprint) return { ...secret, last_seq: secret.last_used_seq };
    const used = signed.find((one) => one.fingerprint === fingerprint);
    return { events: 0, ...used, slot, fingerprint, in_use_since };
  });
  const isKnown = (one) => one.fingerprint && configured.some(({ fingerprint }) => fingerprint === one.fingerprint);
  return [...known, ...signed.filter((one) => !isKnown(one)).map((one) => ({ ...one, former: true }))];
}

function name({ fingerprint, slot, former }) {
  if (fingerprint) return code(fingerprint);
  return former ? `not known (slot ${slot} at that time)` : `slot ${slot}`;
}

function use(secret) {
  if (secret.former) return chip('note', 'not configured any more');
  if (!secret.last_used_at) return chip('note', 'never used');
  const idle = age(secret.last_used_at) > 24 * 3600;
  return idle ? chip('note', 'not used for a day') : chip('ok', 'used');
}
