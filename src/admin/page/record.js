// The record: who did what, when and why.

import { get } from './api.js';
import { facts, h, paint, table } from './dom.js';
import { count, taskWords } from './format.js';
import { button, empty, heading, link, problem, progress, state } from './parts.js';
import { live, poll, told } from './poll.js';
import { time } from './time.js';

const SECONDS = 5;
const PAGE = 50;

/** Shows the list, or one job, in `main` until the signal. */
export function show(main, { id, signal }) {
  if (id) live(main, signal, SECONDS, () => get(`/jobs/${encodeURIComponent(id)}`, null, signal), page);
  else all(main, signal);
}

function all(main, signal) {
  const list = { jobs: null, next: null, pages: 1, error: null };
  const draw = () =>
    paint(
      main,
      heading('Record'),
      h(
        'p',
        { class: 'dim' },
        'Everything that people have asked for, here or on the command line. Nothing is ever taken out.',
      ),
      list.error && problem(list.error, { old: list.jobs !== null }),
      list.jobs &&
        (list.jobs.length
          ? jobs(list.jobs)
          : empty(
              'Nobody has asked for anything yet.',
              'Pauses, retries, discards, admissions and replays would be here: who, when, why, and what came of it.',
            )),
      list.next &&
        h(
          'p',
          { class: 'after' },
          button('Show more', () => {
            list.pages += 1;
            window.dispatchEvent(new Event('changed'));
          }),
        ),
    );
  poll(signal, SECONDS, async () => {
    try {
      Object.assign(list, await load(list.pages, signal), { error: null });
    } catch (error) {
      if (signal.aborted) return;
      list.error = told(error);
    }
    main.removeAttribute('aria-busy');
    draw();
  });
}

async function load(pages, signal) {
  const jobs = [];
  let next = null;
  for (let page = 0; page < pages; page += 1) {
    const answer = await get('/jobs', { limit: PAGE, cursor: next }, signal);
    jobs.push(...answer.jobs);
    next = answer.next;
    if (!next) break;
  }
  return { jobs, next };
}

function jobs(rows) {
  return table(
    'Jobs',
    [
      ['Job', (job) => link(`#/record/${job.id}`, String(job.id)), 'right'],
      ['Asked for', (job) => time(job.created_at)],
      ['Who', (job) => job.who],
      ['What', (job) => [taskWords(job.task), job.sink ? [' ', h('span', { class: 'dim' }, job.sink)] : null]],
      ['State', (job) => state(job.state)],
      ['Reason', (job) => job.reason || '\u2013', 'wide'],
      ['What came of it', (job) => job.message || tally(job), 'wide'],
    ],
    rows,
    { key: (job) => `job-${job.id}` },
  );
}

function tally(job) {
  const total = job.total ? ` of ${count(job.total)}` : '';
  return job.done || job.failed
    ? `${count(job.done)}${total} done${job.failed ? `, ${count(job.failed)} failed` : ''}`
    : '\u2013';
}

function page(job) {
  return [
    heading(`Job ${job.id}: ${taskWords(job.task)}`, state(job.state)),
    job.message ? h('p', { class: 'lead' }, job.message) : null,
    facts(
      ['Who', job.who],
      ['Reason', job.reason || 'none given'],
      ['Sink', job.sink && link(`#/sinks?name=${encodeURIComponent(job.sink)}`, job.sink)],
      ['Asked for', time(job.created_at, 'whole')],
      ['Ended', job.ended_at ? time(job.ended_at, 'whole') : 'not yet'],
      ['Done', count(job.done)],
      ['Failed', count(job.failed)],
      ['Of', job.total === null ? 'not counted' : count(job.total)],
    ),
    job.ended_at || !job.total
      ? null
      : h('p', null, progress(`Progress of job ${job.id}`, job.done + job.failed, job.total)),
    job.task === 'replay' ? h('p', null, link(`#/replays/${job.id}`, 'This replay')) : null,
  ];
}
