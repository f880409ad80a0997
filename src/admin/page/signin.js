// Asking for the token, once for a tab.

import { get, hasToken, setToken } from './api.js';
import { h, paint } from './dom.js';

/** Takes a token out of the fragment `#token=..` and out of the address bar. */
export function takeFromAddress() {
  const found = /^#token=([^&]*)/.exec(window.location.hash);
  if (!found) return false;
  let token = found[1];
  try {
    token = decodeURIComponent(token);
  } catch {
    // As it stands, then.
  }
  setToken(token);
  window.history.replaceState(null, '', `${window.location.pathname}#/`);
  return true;
}

/** Shows the form; `done` once a token was taken. */
export function show(main, done) {
  const complaint = h('p', { class: 'problem', role: 'alert', hidden: true });
  const token = h('input', { type: 'password', name: 'token', required: true, autocomplete: 'off', spellcheck: 'false', 'aria-describedby': 'token-hint' });
  const go = h('button', { type: 'submit', class: 'primary' }, 'Open');
  const submit = async (event) => {
    event.preventDefault();
    go.disabled = true;
    complaint.hidden = true;
    setToken(token.value.trim());
    const refused = await get('/sinks').then(() => null, (error) => error);
    go.disabled = false;
    if (refused && refused.status === 401) refused.message = 'This is not the token. It is what admin.token in the configuration names, without a line break at its end.';
    if (hasToken() && (!refused || refused.status === 503)) {
      done();
      return;
    }
    complaint.hidden = false;
    complaint.textContent = refused.message;
    setToken('');
    token.focus();
  };
  paint(main, h('form', { class: 'signin', onsubmit: submit },
    h('h1', { tabindex: '-1' }, 'Sign in'),
    h('p', null, 'What is behind this page is about money and people, so it asks for the admin token.'),
    h('label', { class: 'field' }, h('span', { class: 'label' }, 'Admin token'), token),
    h('p', { id: 'token-hint', class: 'hint' }, 'It is in the file that ', h('code', null, 'admin.token'), ' names in the configuration. It stays in this tab, until you close it.'),
    complaint, h('div', { class: 'actions' }, go)));
  main.removeAttribute('aria-busy');
  token.focus();
}
