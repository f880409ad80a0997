// What happens while somebody looks elsewhere: messages in the corner, and words for screen readers.

import { h } from './dom.js';

const STAYS = 12000;

/** Says something to screen readers, and to nobody else. */
export function say(text) {
  const said = document.getElementById('said');
  if (said.textContent !== text) said.textContent = text;
}

/** Shows a message; one that is bad stays until it is closed. Gives back how to close it. */
export function toast(level, text, ...more) {
  const close = () => node.remove();
  const node = h(
    'div',
    { class: `toast ${level}`, role: level === 'bad' ? 'alert' : 'status' },
    h('p', null, text, more.length ? [' ', more] : null),
    h('button', { type: 'button', class: 'quiet', 'aria-label': 'Close this message', onclick: close }, '\u00d7'),
  );
  document.getElementById('toasts').append(node);
  if (level !== 'bad') setTimeout(close, STAYS);
  return close;
}

/** Puts a text on the clipboard; where that cannot be done, shows it for copying by hand. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    toast('ok', `${what} copied.`);
  } catch {
    showForCopying(text, what);
  }
}

function showForCopying(text, what) {
  const area = h('textarea', { readonly: true, rows: '5', 'aria-label': what, value: text });
  const close = h('button', { type: 'button', onclick: () => dialog.close() }, 'Close');
  const dialog = h(
    'dialog',
    { 'aria-labelledby': 'copy-title', onclose: () => dialog.remove() },
    h('h2', { id: 'copy-title' }, what),
    h('p', null, 'This browser does not let the page copy. Copy it from here:'),
    area,
    h('div', { class: 'actions' }, close),
  );
  document.body.append(dialog);
  dialog.showModal();
  area.select();
}
