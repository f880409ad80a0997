// Lists of things that a person decides about: filters, pages, choosing some or all.

import { get } from './api.js';
import { h, paint } from './dom.js';
import { many } from './format.js';
import { button, empty, link, problem, values } from './parts.js';
import { poll, told } from './poll.js';
import { withMoments } from './time.js';

const SECONDS = 10;
const PAGE = 50;

/**
 * A list under `path`, whose answer holds it as `plural`. `view` gives `top(list)`, `table(list)`, `empty(list)`,
 * `actions(list)` where there is something to decide, and `id(row)` where rows have no `id`; the list has `rows`, `chosen` (ids), `filter`, `more` (there are more than these).
 */
export function choosing(main, { signal, path, plural, filter, view }) {
  const list = { rows: [], chosen: new Set(), filter, next: null, pages: 1, error: null, loaded: false };
  list.redraw = () => draw(main, list, view);
  list.toggle = (id, on) => {
    if (on) list.chosen.add(id);
    else list.chosen.delete(id);
    list.redraw();
  };
  list.showMore = () => {
    list.pages += 1;
    window.dispatchEvent(new Event('changed'));
  };
  poll(signal, SECONDS, async () => {
    try {
      await load(list, { signal, path, plural, id: view.id });
      list.error = null;
    } catch (error) {
      if (signal.aborted) return;
      list.error = told(error);
    }
    main.removeAttribute('aria-busy');
    list.redraw();
  });
}

async function load(list, { signal, path, plural, id = (row) => row.id }) {
  const rows = [];
  const sought = withMoments(list.filter);
  let next = null;
  for (let page = 0; page < list.pages; page += 1) {
    const answer = await get(path, { ...sought, limit: PAGE, cursor: next }, signal);
    rows.push(...answer[plural].map((row) => ({ ...row, id: id(row) })));
    next = answer.next;
    if (!next) break;
  }
  const there = new Set(rows.map((row) => row.id));
  list.chosen.forEach((id) => there.has(id) || list.chosen.delete(id));
  Object.assign(list, { rows, next, loaded: true });
}

function draw(main, list, view) {
  paint(
    main,
    view.top(list),
    list.error && problem(list.error, { old: list.loaded }),
    list.loaded && (list.rows.length ? [view.actions && bar(list, view), view.table(list)] : none(list, view)),
    list.next && h('p', { class: 'after' }, button('Show more', list.showMore)),
  );
}

/** A page may be empty, and not the last one. */
function none(list, view) {
  return list.next ? empty('Nothing found so far.', 'There is more to look through.') : view.empty(list);
}

function bar(list, view) {
  const { rows, chosen } = list;
  const all = rows.length > 0 && rows.every((row) => chosen.has(row.id));
  const box = h('input', {
    type: 'checkbox',
    checked: all,
    indeterminate: chosen.size > 0 && !all,
    onchange: (event) => {
      rows.forEach((row) => (event.target.checked ? chosen.add(row.id) : chosen.delete(row.id)));
      list.redraw();
    },
  });
  return h(
    'div',
    { class: 'choice', 'data-key': 'choice' },
    h('label', null, box, chosen.size ? `${many(chosen.size, 'chosen', 'chosen')}` : 'Choose all shown'),
    h('span', { class: 'actions' }, view.actions(list)),
  );
}

/** The column that chooses a row. */
export function choice(list, name) {
  return [
    h('span', { class: 'unseen' }, 'Choose'),
    (row) =>
      h(
        'label',
        { class: 'pick' },
        h('input', {
          type: 'checkbox',
          checked: list.chosen.has(row.id),
          'aria-label': name(row),
          onchange: (event) => list.toggle(row.id, event.target.checked),
        }),
      ),
    'pick',
  ];
}

/**
 * What the buttons are about: those that are chosen; or all that fit, by their numbers where all of them are on view, so
 * that nothing is decided that nobody has seen. `done` takes the ticks away.
 */
export function subject(list, plural) {
  const words = (number) => many(number, plural.slice(0, -1), plural);
  const done = () => {
    list.chosen.clear();
    list.redraw();
  };
  if (list.chosen.size) return { body: { ids: [...list.chosen] }, words: words(list.chosen.size), done };
  if (!list.next)
    return { body: { ids: list.rows.map((row) => row.id) }, words: `all ${words(list.rows.length)}`, done };
  return {
    body: { all: true, ...withMoments(list.filter) },
    words: `all ${plural} that fit, also those that are not on view`,
    done,
  };
}

/** A form of filters that leads to `base` with them. */
export function filterForm(base, go, ...fields) {
  const submit = (event) => {
    event.preventDefault();
    go(base, values(event.target));
  };
  return h(
    'form',
    { class: 'filters', role: 'search', 'aria-label': 'Filters', onsubmit: submit },
    h(
      'div',
      { class: 'fields' },
      fields,
      h('div', { class: 'actions' }, h('button', { type: 'submit', class: 'primary' }, 'Filter'), link(base, 'Clear')),
    ),
  );
}
