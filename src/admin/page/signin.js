// Asking for the token, once for a tab.

import { get, setToken } from './api.js';
import { h } from './dom.js';
import { field, input } from './parts.js';

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

const WRONG =
  'This is not the token. It is what admin.token in the configuration names, without a line break at its end.';

/** Shows the form; `done` once a token was taken. */
export function show(main, done) {
  const complaint = h('p', { class: 'problem', role: 'alert', hidden: true });
  const token = input('token', '', { type: 'password', required: true, 'aria-describedby': 'token-hint' });
  const go = h('button', { type: 'submit', class: 'primary' }, 'Open');
  const submit = async (event) => {
    event.preventDefault();
    go.disabled = true;
    complaint.hidden = true;
    const refused = await refusal(token.value.trim());
    go.disabled = false;
    if (!refused) {
      done();
      return;
    }
    complaint.hidden = false;
    complaint.textContent = refused;
    token.focus();
  };
  main.replaceChildren(form(submit, token, complaint, go));
  main.removeAttribute('aria-busy');
  token.focus();
}

/** Tries the token; what to tell when it is not taken. */
async function refusal(token) {
  setToken(token);
  const error = await get('/sinks').catch((failure) => failure);
  if (!(error instanceof Error) || error.code === 'starting') return null;
  setToken('');
  return error.status === 401 ? WRONG : error.message;
}

function form(submit, token, complaint, go) {
  return h(
    'form',
    { class: 'signin', onsubmit: submit },
    h('h1', { tabindex: '-1' }, 'Sign in'),
    h('p', null, 'What is behind this page is about money and people, so it asks for the admin token.'),
    field('Admin token', token),
    h(
      'p',
      { id: 'token-hint', class: 'hint' },
      'It is in the file that ',
      h('code', null, 'admin.token'),
      ' names in the configuration. It stays in this tab, until you close it.',
    ),
    complaint,
    h('div', { class: 'actions' }, go),
  );
}
