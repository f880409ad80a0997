// The question before anything is changed: what will happen, who wants it, and why. And what became of it.

import { get, post } from './api.js';
import { h } from './dom.js';
import { count, taskWords } from './format.js';
import { say, toast } from './messages.js';
import { field, input, link } from './parts.js';
import { changed } from './poll.js';
import { keepWho, whoField } from './who.js';

// Most jobs end at once; how long a job is waited for between two looks, at first and at most.
const FIRST_PAUSE = 125;
const PAUSE = 2000;

/**
 * Asks, and does it: `title`, `text` (paragraphs), `verb` (the button), `reason` ('needed', or 'wanted'), `danger`,
 * `path` and `body` of the request, to which who and reason are added,
 * `done()`: what is over once it is asked for, and `then(job)`: where to go from here.
 */
export function ask(wish) {
  const complaint = h('p', { class: 'problem', role: 'alert', hidden: true });
  const [named, who] = whoField();
  const needed = wish.reason === 'needed';
  const reason = input('reason', '', { required: needed, maxlength: '300' });
  const go = h('button', { type: 'submit', class: wish.danger ? 'danger' : 'primary' }, wish.verb);
  const dialog = h(
    'dialog',
    { 'aria-labelledby': 'ask-title', 'aria-describedby': 'ask-text', onclose: () => dialog.remove() },
    h(
      'form',
      { method: 'dialog', onsubmit: (event) => submit(event, wish, { dialog, who, reason, go, complaint }) },
      h('h2', { id: 'ask-title' }, wish.title),
      h(
        'div',
        { id: 'ask-text' },
        [wish.text].flat().map((line) => h('p', null, line)),
      ),
      named,
      field(needed ? 'Reason (needed)' : 'Reason', reason, null),
      complaint,
      h('div', { class: 'actions' }, h('button', { type: 'button', onclick: () => dialog.close() }, 'Leave it'), go),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  (who.value ? reason : who).focus();
}

async function submit(event, wish, { dialog, who, reason, go, complaint }) {
  event.preventDefault();
  const [name, why] = [keepWho(who), reason.value.trim()];
  if (!name || (reason.required && !why)) {
    // Blanks pass for something with the browser.
    const missing = name ? reason : who;
    missing.value = '';
    missing.reportValidity();
    return;
  }
  go.disabled = true;
  try {
    const job = await post(wish.path, { ...wish.body, who: name, ...(why && { reason: why }) });
    dialog.close();
    wish.done?.();
    if (wish.then) wish.then(job);
    else changed();
    follow(job);
  } catch (error) {
    complaint.hidden = false;
    complaint.textContent = error.message;
    go.disabled = false;
  }
}

/** Waits for a job's end, and tells of it. */
export async function follow(job) {
  const name = `${taskWords(job.task)}${job.sink ? ` (${job.sink})` : ''}`;
  const number = link(`#/record/${job.id}`, `record ${job.id}`);
  const close = toast('note', `Asked for: ${name},`, number);
  say(`Asked for: ${name}`);
  const ended = await end(job.id);
  close();
  const more = link(`#/record/${job.id}`, `record ${job.id}`);
  if (ended)
    toast(
      ended.state === 'done' && !ended.failed ? 'ok' : 'bad',
      `${outcome(ended)}: ${name}.`,
      ended.message,
      ' ',
      more,
    );
  else toast('note', `Still at it: ${name},`, more);
  changed();
}

function outcome({ state, failed }) {
  if (state !== 'done') return `It has ${state === 'failed' ? 'failed' : 'been cancelled'}`;
  return failed ? `Done, but for ${count(failed)}` : 'Done';
}

// Longer ones are looked at in the record.
const PATIENCE = 300;

async function end(id) {
  for (let round = 0; round < PATIENCE; round += 1) {
    const pause = Math.min(FIRST_PAUSE * 2 ** round, PAUSE);
    await new Promise((resume) => setTimeout(resume, pause));
    if (document.hidden) continue;
    const job = await get(`/jobs/${id}`).catch(() => null);
    if (job?.ended_at) return job;
  }
  return null;
}
