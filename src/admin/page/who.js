// Who is in front of this browser, as they say themselves: kept here, and sent with everything that changes something.

import { h } from './dom.js';
import { field, input } from './parts.js';

const KEY = 'ralio-relay.who';
const LONGEST = '100';

/** The name, or ''. */
export function who() {
  return localStorage.getItem(KEY) ?? '';
}

/** The field for the name, with what is known already. */
export function whoField() {
  const control = input('who', who(), { required: true, maxlength: LONGEST, autocomplete: 'name' });
  return [field('Your name', control, 'Kept in the record of who did what, and in this browser.'), control];
}

/** Keeps what the field holds; '' where that is no name. */
export function keepWho(control) {
  const name = control.value.trim();
  if (name) localStorage.setItem(KEY, name);
  window.dispatchEvent(new Event('who'));
  return name;
}

/** Asks for another name. */
export function askWho() {
  const [labelled, control] = whoField();
  const save = (event) => {
    event.preventDefault();
    if (keepWho(control)) dialog.close();
    else control.value = '';
  };
  const dialog = h(
    'dialog',
    { 'aria-labelledby': 'who-title', onclose: () => dialog.remove() },
    h(
      'form',
      { method: 'dialog', onsubmit: save },
      h('h2', { id: 'who-title' }, 'Who are you?'),
      labelled,
      h(
        'div',
        { class: 'actions' },
        h('button', { type: 'button', onclick: () => dialog.close() }, 'Leave it'),
        h('button', { type: 'submit', class: 'primary' }, 'Keep'),
      ),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  control.select();
}
