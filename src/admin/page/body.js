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
export function bodyPart({ body, body_encoding, body_as_read: asRead, size }, shown, redraw, extra = []) {
  if (body === null || body === undefined)
    return [empty('Retention has dropped this body.', 'Id, digest, signature and attempts stay.'), extra];
  // What the relay reads, where the bytes do not say it: unpacked, without a byte order mark, letters that are none replaced.
  const [text, encoding] = asRead === null ? [body, body_encoding] : [asRead, 'utf8'];
  if (shown.of !== body) Object.assign(shown, { of: body, lines: encoding === 'utf8' ? lines(text) : null });
  const all = shown.lines;
  const hidden = all ? hiddenIn(all) : 1;
  const words = all
    ? `${many(hidden, 'personal field')} ${shown.bared ? 'shown' : 'hidden'}`
    : unreadable(encoding, shown);
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
      `${hidden || !all ? words : 'No personal field recognised'}; ${bytes(size)}${asRead === null ? ', exactly as received' : ' as received, shown as the relay reads them'}.`,
    ),
  );
  return [bar, all ? structured(all, shown, redraw) : plain(text, shown)];
}

function bare(shown, redraw) {
  shown.bared = !shown.bared;
  say(shown.bared ? 'Personal fields are shown.' : 'Personal fields are hidden.');
  redraw();
}

function unreadable(encoding, shown) {
  const what = encoding === 'utf8' ? 'Not JSON' : 'Not text (base64 of the bytes)';
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
