// Pieces that every view is made of.

import { h } from './dom.js';
import { count, reportedLevel, stateWords } from './format.js';

const SIGNS = { ok: '\u25cf', warn: '\u25b2', bad: '\u25a0', note: '\u25cb' };

/** A status: a sign, a word and a colour, so that none of them has to be seen alone. */
export function chip(level, words) {
  const sign = h('span', { 'aria-hidden': 'true', class: 'sign' }, SIGNS[level]);
  return h('span', { class: `chip ${level}` }, sign, h('span', { class: 'words' }, words));
}

/** A state of the relay's. */
export function state(word) {
  const [words, level] = stateWords(word);
  return chip(level, words);
}

/** A state that an event reports. */
export function reported(word) {
  return word ? h('span', { title: word }, chip(reportedLevel(word), word)) : h('span', { class: 'dim' }, '\u2013');
}

/** What is odd about an event, each with what it means at hand. */
export function flags(event) {
  const all = [
    event.stale && [
      'warn',
      'stale',
      'It reports an earlier state than one that is stored already, such as processing after completed.',
    ],
    event.conflict && [
      'bad',
      'conflict',
      'Another event with other bytes came under the same id. It is not forwarded: a person has to look.',
    ],
    event.digest_mismatch && [
      'bad',
      'altered',
      'The body that is kept is not the one that was signed: its SHA-256 is another. Nothing is delivered of it.',
    ],
    event.admitted && [
      'note',
      'admitted',
      'It was refused for its signature when it came, kept in quarantine, and taken in later.',
    ],
    event.repeated_members?.length > 0 && [
      'warn',
      'members given twice',
      'Its JSON names a member more than once, and other programs may read another value.',
    ],
    event.time === null && [
      'note',
      'time missing',
      'It came without a time that could be read. Only the time of receipt is known.',
    ],
    event.arrivals > 1 && [
      'note',
      `\u00d7${event.arrivals}`,
      `It was delivered ${event.arrivals} times, and stored once.`,
    ],
  ];
  return all.filter(Boolean).map(([level, words, why]) => h('span', { title: why }, chip(level, words)));
}

/** The heading of a view, which gets the focus when the view is opened. */
export function heading(text, ...beside) {
  return h(
    'div',
    { class: 'heading' },
    h('h1', { tabindex: '-1' }, text),
    beside.length ? h('div', { class: 'beside' }, beside) : null,
  );
}

/** A part of a view under a heading of its own. */
export function section(name, ...children) {
  const id = `part-${name.toLowerCase().replace(/[^a-z]+/g, '-')}`;
  return h('section', { 'aria-labelledby': id, class: 'part' }, h('h2', { id }, name), children);
}

/** What would be here. */
export function empty(what, ...more) {
  return h('div', { class: 'empty' }, h('p', null, what), more.length ? h('p', { class: 'dim' }, more) : null);
}

/** What went wrong, and what to do; `old`: what is shown below is from before; `whole`: there is nothing else on view. */
export function problem(error, { old = false, whole = false } = {}) {
  const again = button('Try again', () => window.dispatchEvent(new Event('changed')));
  const [tag, title] = whole
    ? ['h1', 'This could not be loaded']
    : ['strong', old ? 'Not up to date' : 'That did not work'];
  return h(
    'div',
    { class: 'problem', role: 'alert', 'data-key': 'problem' },
    h(tag, { tabindex: whole ? '-1' : null }, title),
    h('p', null, error.message),
    old ? h('p', { class: 'dim' }, 'What is below is the last answer; the next is asked for by itself.') : null,
    h(
      'p',
      { class: 'actions' },
      again,
      error.status ? h('span', { class: 'dim' }, `${error.status} ${error.code}`) : null,
    ),
  );
}

/** A button. */
export function button(words, onclick, properties) {
  return h('button', { type: 'button', onclick, ...properties }, words);
}

/** A button that leads to a view of this page. */
export function goButton(href, words, properties) {
  const go = () => {
    window.location.hash = href;
  };
  return button(words, go, properties);
}

/** A number that leads to the list of what it counts; 0 leads nowhere. */
export function counted(number, href) {
  return number ? link(href, count(number)) : '0';
}

/** Links to forms of one view, of which one is shown: `[href, words]`. */
export function tabs(label, current, all) {
  return h(
    'nav',
    { class: 'tabs', 'aria-label': label },
    all.map(([href, words]) => link(href, words, { 'aria-current': words === current ? 'page' : null })),
  );
}

/** A link to a view of this page. */
export function link(href, words, properties) {
  return h('a', { href, ...properties }, words);
}

/** Where an event is shown. */
export function eventLink(seq, words = `#${seq}`) {
  return link(`#/events/${seq}`, words, { class: 'num' });
}

/** The order, session or account that an event is about, with every event about it behind it. */
export function about(key) {
  return link(`#/events?key=${encodeURIComponent(key)}`, code(key), { title: 'Every event about it' });
}

/** A long id, which may be broken anywhere. */
export function code(text, properties) {
  return h('code', { class: 'id', ...properties }, text);
}

/** How far something is. */
export function progress(label, done, total) {
  const bar = h('progress', { 'aria-label': label, max: total || 1, value: null });
  if (total) bar.setAttribute('value', String(Math.min(done, total)));
  return bar;
}

/** A labelled field of a form. */
export function field(label, control, hint) {
  return h(
    'label',
    { class: 'field' },
    h('span', { class: 'label' }, label),
    control,
    hint ? h('span', { class: 'hint' }, hint) : null,
  );
}

/** A text input. */
export function input(name, value, properties) {
  return h('input', {
    name,
    value: value ?? '',
    autocomplete: 'off',
    autocapitalize: 'off',
    spellcheck: 'false',
    ...properties,
  });
}

/** A choice; options are `[value, words]`. */
export function select(name, value, options) {
  return h(
    'select',
    { name, value: value ?? '' },
    options.map(([one, words]) => h('option', { value: one }, words)),
  );
}

/** The values of a form, without those that are empty. */
export function values(form) {
  const found = {};
  for (const [name, value] of new FormData(form)) {
    if (value.trim() !== '') found[name] = value.trim();
  }
  return found;
}
