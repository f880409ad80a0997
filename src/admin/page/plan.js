// Beginning a replay: first what it would do, then the question.

import { post } from './api.js';
import { ask } from './dialog.js';
import { facts, h, paint } from './dom.js';
import { mainFields, moreFields, moreSet } from './filters.js';
import { count, many } from './format.js';
import { say } from './messages.js';
import { button, eventLink, field, heading, input, problem, progress, values } from './parts.js';
import { told } from './poll.js';
import { withMoments } from './time.js';

const LISTS = { type: 'types', category: 'categories' };

/** Shows the view in `main` until the signal. */
export function show(main, { query, signal, sinks, sources, go }) {
  const asked = Object.fromEntries(query);
  const view = { main, signal, asked, go, plan: null, error: null, busy: false };
  paint(
    main,
    heading('New replay'),
    h(
      'p',
      null,
      'Delivers stored events to a sink again, marked as a replay. The far side recognises by the event id what it has already. First you see what it would do.',
    ),
    form(view, sinks, sources),
    h('div', { id: 'plan' }),
  );
  main.removeAttribute('aria-busy');
  window.addEventListener('changed', () => view.error && plan(view), { signal });
  if (asked.sink) plan(view);
}

function form(view, sinks, sources) {
  const { asked, go } = view;
  const submit = (event) => {
    event.preventDefault();
    const entered = values(event.target);
    // The same again is asked again: the address stays.
    if (new URLSearchParams(entered).toString() === new URLSearchParams(asked).toString()) plan(view);
    else go('#/replays/new', entered);
  };
  const first = sinks.length === 1 ? sinks : ['', ...sinks];
  const options = first.map((name) => [name, name || 'choose one']);
  if (asked.sink && !sinks.includes(asked.sink)) options.push([asked.sink, asked.sink]);
  return h(
    'form',
    { class: 'filters', 'aria-label': 'What to deliver again', onsubmit: submit },
    h(
      'div',
      { class: 'fields' },
      field(
        'To the sink',
        h(
          'select',
          { name: 'sink', required: true, value: asked.sink ?? (sinks.length === 1 ? sinks[0] : '') },
          options.map(([value, words]) => h('option', { value }, words)),
        ),
      ),
      field(
        'From event',
        input('from_seq', asked.from_seq, { inputmode: 'numeric', pattern: '[0-9]+', placeholder: 'the first' }),
      ),
      field(
        'To event',
        input('to_seq', asked.to_seq, { inputmode: 'numeric', pattern: '[0-9]+', placeholder: 'the last' }),
      ),
      field(
        'At most a second',
        input('rate', asked.rate, { inputmode: 'decimal', pattern: '[0-9.]+', placeholder: 'no limit' }),
      ),
    ),
    h(
      'details',
      { open: moreSet(asked) > 0 || ['search', 'type', 'state', 'since'].some((name) => asked[name]) },
      h('summary', null, 'Only events that…'),
      h('div', { class: 'fields' }, mainFields(asked), moreFields(asked, sources)),
    ),
    h('p', { class: 'actions' }, h('button', { type: 'submit', class: 'primary' }, 'Plan')),
  );
}

/** What the API takes. */
function wish({ sink, from_seq: from, to_seq: to, rate, order, ...filter }) {
  const named = Object.entries(filter).map(([name, value]) => (LISTS[name] ? [LISTS[name], [value]] : [name, value]));
  return {
    sink,
    filter: Object.fromEntries(named),
    ...(from && { from_seq: Number(from) }),
    ...(to && { to_seq: Number(to) }),
  };
}

async function plan(view) {
  // What is begun is what was planned, also where `today` is another day by then.
  Object.assign(view, { busy: true, error: null, sought: wish(withMoments(view.asked)) });
  draw(view);
  try {
    view.plan = await post('/replays/plan', view.sought, view.signal);
    say(`It would deliver ${many(view.plan.deliver, 'event')}.`);
  } catch (error) {
    if (view.signal.aborted) return;
    Object.assign(view, { error: told(error), plan: null });
  }
  view.busy = false;
  draw(view);
}

function draw(view) {
  const { plan: made, busy, error } = view;
  paint(
    view.main.querySelector('#plan'),
    error && problem(error),
    busy && h('p', { class: 'status' }, 'Counting…'),
    made && !busy && planned(view, made),
  );
}

function planned(view, made) {
  const least = made.complete ? '' : 'at least ';
  const nothing = made.complete && !made.deliver;
  return h(
    'section',
    { class: 'card', 'aria-label': 'What it would do' },
    h(
      'h2',
      null,
      nothing ? 'Nothing to deliver' : `It would deliver ${least}${many(made.deliver, 'event')} to ${view.asked.sink}`,
    ),
    made.complete
      ? null
      : h(
          'p',
          { class: 'status' },
          progress('Counted', made.searched.done, made.searched.total),
          `Counted in ${count(made.searched.done)} of ${many(made.searched.total, 'event')}; the replay itself goes through all of them.`,
        ),
    facts(
      ['Fit the filters', count(made.matched)],
      ['Not wanted by the sink', count(made.filtered)],
      ['Body dropped by retention', count(made.pruned)],
      ['Held back for a conflict', count(made.conflicts)],
      ['First', made.first ? eventLink(made.first) : '\u2013'],
      ['Last', made.last ? eventLink(made.last) : '\u2013'],
      ['Ends at', made.ends_at],
    ),
    nothing
      ? null
      : h(
          'p',
          { class: 'actions' },
          button('Begin…', () => begin(view, made), { class: 'primary' }),
        ),
  );
}

function begin({ asked, sought, go }, made) {
  const least = made.complete ? '' : 'at least ';
  ask({
    title: `Deliver ${least}${many(made.deliver, 'event')} to ${asked.sink} again?`,
    verb: 'Begin the replay',
    reason: 'needed',
    path: '/replays',
    body: { ...sought, ...(asked.rate && { rate: Number(asked.rate) }) },
    text: 'It runs in the background, and can be cancelled at any time.',
    then: (job) => go(`#/replays/${job.id}`),
  });
}
