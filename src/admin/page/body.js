// An event's or a quarantined request's body, with what is personal hidden until asked for.

import { h } from './dom.js';
import { bytes, many } from './format.js';
import { block, hiddenIn, lines } from './json.js';
import { say } from './messages.js';
import { button, empty } from './parts.js';

const MOST_LINES = 1500;

/** What is shown of a body; kept by the view, so that painting again changes nothing. */
export function bodyState() {
  return { bared: false, whole: false };
}

/** The body and its switches; `redraw` paints the view again. `extra` are more buttons. */
export function bodyPart(event, shown, redraw, extra = []) {
  const { body, body_encoding: encoding, body_as_read: read, size } = event;
  if (body === null || body === undefined)
    return [empty('Retention has dropped this body.', 'Id, digest, signature and attempts stay.'), extra];
  // What the relay itself reads, where the bytes do not say it: a body may be compressed.
  const text = read ?? (encoding === 'utf8' ? body : null);
  if (shown.of !== body) Object.assign(shown, { of: body, lines: text === null ? null : lines(text) });
  const all = shown.lines;
  const hidden = all ? hiddenIn(all) : 1;
  const words = all ? `${many(hidden, 'personal field')} ${shown.bared ? 'shown' : 'hidden'}` : unreadable(text, shown);
  const bar = h(
    'div',
    { class: 'bar-of-body' },
    hidden
      ? button(shown.bared ? 'Hide personal fields' : 'Show personal fields', () => bare(shown, redraw), {
          'aria-pressed': String(shown.bared),
        })
      : null,
    extra,
    h(
      'span',
      { class: 'dim' },
      `${hidden || !all ? words : 'No personal field recognised'}; ${bytes(size)}, ${howShown(event)}.`,
    ),
  );
  return [bar, all ? structured(all, shown, redraw) : plain(text ?? body, shown)];
}

function howShown({ body_as_read: read, body_matches: matches }) {
  const asRead = read !== null ? 'shown as the relay reads it' : null;
  if (matches === false) return ['NOT as received', asRead].filter(Boolean).join(', ');
  return asRead ?? 'exactly as received';
}

function bare(shown, redraw) {
  shown.bared = !shown.bared;
  say(shown.bared ? 'Personal fields are shown.' : 'Personal fields are hidden.');
  redraw();
}

function unreadable(text, shown) {
  const what = text !== null ? 'Not JSON' : 'Not text (base64 of the bytes)';
  return shown.bared ? what : `${what}, so what is personal in it cannot be told: all of it is hidden`;
}

function plain(body, shown) {
  if (!shown.bared) return h('pre', { class: 'body' }, h('span', { class: 'hidden' }, 'hidden'));
  return h('pre', { class: 'body', tabindex: '0', role: 'region', 'aria-label': 'What it says' }, body);
}

function structured(all, shown, redraw) {
  const cut = !shown.whole && all.length > MOST_LINES;
  const rest = () => {
    shown.whole = true;
    redraw();
  };
  return [
    block(cut ? all.slice(0, MOST_LINES) : all, !shown.bared),
    cut ? button(`Show the other ${many(all.length - MOST_LINES, 'line')}`, rest) : null,
  ];
}
