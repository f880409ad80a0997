// The first look: is money flowing?

import { get } from './api.js';
import { h, svg, table } from './dom.js';
import { bytes, count, many, span } from './format.js';
import { withoutForms } from './mask.js';
import { say } from './messages.js';
import { chip, counted, empty, link, section, state } from './parts.js';
import { live } from './poll.js';
import { inTrouble, listOf, ofSink } from './sinks.js';
import { absolute, age, setNow, time } from './time.js';

const SECONDS = 4;

/** Shows the view in `main` until the signal. */
export function show(main, { signal, onOverview }) {
  let last = '';
  live(
    main,
    signal,
    SECONDS,
    async () => {
      const overview = await get('/overview', null, signal);
      setNow(overview.now);
      onOverview(overview);
      return overview;
    },
    (overview) => {
      const told = overview.verdict;
      if (last && last !== told.sentence) say(told.sentence);
      last = told.sentence;
      return page(overview, told);
    },
  );
}

function page(overview, told) {
  const { findings } = told;
  return [
    h(
      'div',
      { class: `verdict ${told.level}` },
      h('h1', { tabindex: '-1' }, told.sentence),
      h('p', null, told.more),
      findings.length ? h('ul', { class: 'findings' }, findings.map(finding)) : null,
    ),
    figures(overview),
    section('Arrivals in the last hour', chart(overview.per_minute, overview.now)),
    section('Sinks', sinks(overview.sinks)),
    section('Sources', sources(overview.sources)),
  ];
}

function finding({ level, text, todo, page: href, command }) {
  const words = { bad: 'act', warn: 'look' };
  // Who looks at the page goes on here where that can be done, and else on a terminal.
  const further = href ? link(href, 'Look.') : command && !todo.includes(command) ? h('code', null, command) : null;
  return h(
    'li',
    null,
    chip(level, words[level]),
    h('div', null, h('strong', null, withoutForms(text)), ' ', commands(todo), further ? [' ', further] : null),
  );
}

/** A text in which what stands between backticks is a command. */
function commands(text) {
  return text.split('`').map((part, at) => (at % 2 ? h('code', null, part) : part));
}

function figures(overview) {
  const { certificate, quarantine } = overview;
  const minute = overview.per_minute.at(-1) + (overview.per_minute.at(-2) ?? 0);
  const oldest = Math.max(...overview.sinks.map((sink) => sink.lag_seconds ?? 0), 0);
  return h(
    'dl',
    { class: 'figures' },
    figure(
      'Last event',
      overview.last_event_at ? time(overview.last_event_at, 'ago') : 'never',
      overview.last_event_at && absolute(overview.last_event_at),
      '#/events',
    ),
    figure(
      'Events in the last hour',
      count(overview.last_hour),
      `${count(minute)} in the last two minutes`,
      '#/events?since=1h',
    ),
    figure('In the last 24 hours', count(overview.last_24h), `${count(overview.head)} stored`, '#/events?since=24h'),
    figure('Oldest waiting', oldest ? span(oldest) : 'none', 'over all sinks', '#/sinks'),
    figure(
      'Dead letters',
      count(overview.dead_letters),
      overview.dead_letters ? 'a person decides' : 'nothing to decide',
      '#/dead-letters',
    ),
    figure(
      'Quarantine',
      count(quarantine.entries),
      quarantine.not_kept
        ? `and ${count(quarantine.not_kept)} not kept: answered 503`
        : `of at most ${count(quarantine.max_entries)}`,
      '#/quarantine',
    ),
    figure(
      'Certificate',
      certificate ? span(certificate.seconds_left) : 'none',
      certificate ? `until ${certificate.not_after.slice(0, 10)}` : 'plain HTTP behind a proxy',
    ),
    figure('Inbox', bytes(overview.inbox_bytes), `and ${bytes(overview.wal_bytes)} of write-ahead log`),
  );
}

function figure(name, value, more, href) {
  return h(
    'div',
    null,
    h('dt', null, name),
    h('dd', null, h('span', { class: 'value' }, href ? link(href, value) : value), h('span', { class: 'dim' }, more)),
  );
}

const [WIDE, HIGH, FLOOR] = [600, 72, 2];

/** Bars, one a minute; what they say stands below in words as well. */
function chart(minutes, now) {
  const most = Math.max(...minutes, 1);
  const step = WIDE / minutes.length;
  const bars = minutes.map((events, at) => {
    const tall = events ? Math.max(FLOOR, (events / most) * (HIGH - 4)) : 1;
    const when = new Date(Date.parse(now) - (minutes.length - 1 - at) * 60000).toISOString();
    return svg(
      'rect',
      { x: at * step + 1, y: HIGH - tall, width: step - 2, height: tall, class: events ? 'bar' : 'bar none' },
      svg('title', null, `${absolute(when).slice(0, -3)}: ${many(events, 'event')}`),
    );
  });
  const silent = minutes.slice(0, -1).filter((events) => !events).length;
  const words = `${many(
    minutes.reduce((a, b) => a + b, 0),
    'event',
  )}; at most ${count(most)} in a minute; ${silent ? many(silent, 'minute') : 'no minute'} without any.`;
  return h(
    'figure',
    { class: 'chart' },
    svg(
      'svg',
      {
        viewBox: `0 0 ${WIDE} ${HIGH}`,
        preserveAspectRatio: 'none',
        role: 'img',
        'aria-label': `Events a minute in the last hour. ${words}`,
      },
      bars,
    ),
    h(
      'div',
      { class: 'axis', 'aria-hidden': 'true' },
      h('span', null, '60 min ago'),
      h('span', null, '30 min'),
      h('span', null, 'now'),
    ),
    h('figcaption', null, words),
  );
}

function sinks(all) {
  if (!all.length) return empty('No sink is configured.', 'Each sink would be here, with how far behind it is.');
  const has = (name) => all.some((sink) => sink[name]);
  return table(
    'Sinks',
    [
      ['Sink', (sink) => link(ofSink(sink), sink.name), 'first'],
      ['Type', (sink) => sink.type ?? '\u2013', 'less'],
      ['State', (sink) => state(sink.state), 'states'],
      has('since') && ['Since', (sink) => time(sink.since, 'ago')],
      ['Undelivered', (sink) => counted(sink.undelivered, ofSink(sink)), 'right count'],
      ['Oldest waiting', (sink) => (sink.lag_seconds ? span(sink.lag_seconds) : '\u2013'), 'right count'],
      ['Parked', (sink) => counted(sink.parked, listOf('parked', sink)), 'right count'],
      ['Dead letters', (sink) => counted(sink.dead_letters, listOf('dead-letters', sink)), 'right count'],
      ['Delivered', (sink) => count(sink.delivered), 'right count'],
      has('next_try') && ['Next try', (sink) => time(sink.next_try, 'ago'), 'count'],
      all.some(inTrouble) && [
        'Last error',
        (sink) => (inTrouble(sink) ? withoutForms(sink.last_error) : '\u2013'),
        'wide',
      ],
    ],
    all,
    { cls: 'brief', key: (sink) => sink.name },
  );
}

function sources(all) {
  if (!all.length) return empty('No source is configured.', 'Each endpoint that Ralio delivers to would be here.');
  return table(
    'Sources',
    [
      ['Source', (source) => link('#/sources', source.name), 'first'],
      ['Path', (source) => h('code', null, source.path), 'key'],
      ['Last event', (source) => (source.last_event_at ? time(source.last_event_at) : 'never'), 'states'],
      ['Events', (source) => counted(source.events, `#/events?source=${encodeURIComponent(source.name)}`), 'right'],
      ['Silent for', (source) => (source.last_event_at ? span(age(source.last_event_at)) : '\u2013'), 'right less'],
    ],
    all,
    { cls: 'brief', key: (source) => source.name },
  );
}
