// Replays: stored events delivered again. How far each is, and stopping one.

import { get } from './api.js';
import { ask } from './dialog.js';
import { facts, h, table } from './dom.js';
import { count, many } from './format.js';
import { button, empty, heading, link, progress, state } from './parts.js';
import { live } from './poll.js';
import { time } from './time.js';

const SECONDS = 3;

/** Shows the list, or one of them, in `main` until the signal. */
export function show(main, { id, signal }) {
  if (id) one(main, id, signal);
  else
    live(
      main,
      signal,
      SECONDS,
      () => get('/replays', { limit: 100 }, signal),
      ({ replays }) => all(replays),
    );
}

const begin = () => link('#/replays/new', 'New replay…', { class: 'button primary' });

function all(replays) {
  if (!replays.length)
    return [
      heading('Replays', begin()),
      empty(
        'No replay yet.',
        'Each replay would be here with its progress: stored events delivered to a sink again, for example after it had lost some.',
      ),
    ];
  return [
    heading('Replays', begin()),
    table(
      'Replays',
      [
        ['No.', (replay) => link(`#/replays/${replay.id}`, String(replay.id)), 'right'],
        ['Begun', (replay) => time(replay.created_at)],
        ['Sink', (replay) => replay.sink, 'first'],
        ['State', (replay) => state(replay.state), 'states'],
        ['Progress', far],
        ['Who', (replay) => replay.who],
        ['Reason', (replay) => replay.reason || '\u2013', 'wide'],
      ],
      replays,
      { cls: 'brief', key: (replay) => `replay-${replay.id}` },
    ),
  ];
}

function far(replay) {
  const worked = replay.done + replay.failed;
  const words = replay.total ? `${count(worked)} of ${count(replay.total)}` : `${count(worked)} so far`;
  const failed = replay.failed ? `, ${count(replay.failed)} given up` : '';
  if (replay.ended_at) return `${count(replay.done)} delivered${failed}`;
  return h(
    'span',
    { class: 'far' },
    progress(`Progress of replay ${replay.id}`, worked, replay.total),
    ` ${words}${failed}`,
  );
}

function one(main, id, signal) {
  const path = `/replays/${encodeURIComponent(id)}`;
  live(main, signal, SECONDS, () => get(path, null, signal), page);
}

function page(replay) {
  const running = !replay.ended_at;
  return [
    heading(`Replay ${replay.id} to ${replay.sink}`, state(replay.state)),
    h('p', { class: 'lead' }, far(replay)),
    replay.message ? h('p', null, replay.message) : null,
    facts(
      ['Begun', time(replay.created_at, 'whole')],
      ['Ended', replay.ended_at ? time(replay.ended_at, 'whole') : 'not yet'],
      ['Who', replay.who],
      ['Reason', replay.reason || 'none given'],
      ['At most', replay.rate ? `${count(replay.rate)} events a second` : 'as fast as the sink takes them'],
      ['Selection', selection(replay.selection)],
    ),
    running
      ? h(
          'p',
          { class: 'actions' },
          button('Cancel…', () => cancel(replay), { class: 'danger' }),
        )
      : null,
    replay.failed
      ? h(
          'p',
          null,
          `It gave up ${many(replay.failed, 'event')}: each says why under its attempts. Another replay tries again.`,
        )
      : null,
  ];
}

function selection(chosen) {
  if (!chosen) return null;
  if (typeof chosen === 'string') return chosen;
  const set = Object.entries(chosen.filter ?? {}).filter(
    ([, value]) => value !== null && value !== '' && value.length !== 0,
  );
  const words = set.map(([name, value]) => `${name.replaceAll('_', ' ')} ${[value].flat().join(' or ')}`);
  return `events #${chosen.first} to #${chosen.last}${words.length ? `, ${words.join(', ')}` : ''}`;
}

function cancel(replay) {
  ask({
    title: `Cancel replay ${replay.id}?`,
    verb: 'Cancel the replay',
    reason: 'wanted',
    danger: true,
    path: `/replays/${replay.id}/cancel`,
    body: {},
    text: 'What it has delivered stays delivered; the rest is not sent again.',
  });
}
