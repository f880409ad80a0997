// Building and updating the document. Text only ever goes in as text: nothing here, or anywhere else, parses HTML.

const SVG = 'http://www.w3.org/2000/svg';
const HANDLERS = ['onclick', 'oninput', 'onchange', 'onsubmit', 'onkeydown', 'onclose', 'oncancel', 'ontoggle'];
// What a person has typed or chosen stays theirs when a view is painted again.
const PROPERTIES = ['value', 'checked', 'indeterminate'];

// Control characters and those that turn text around (bidi) or hide in it, which could make a line read as another.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** Text with every character that cannot be seen written out, such as `\u202e`. */
export function clean(text) {
  return String(text).replace(UNSEEN, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** An element. Properties that are null, undefined or false are left out, and so are such children. */
export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same for SVG. */
export function svg(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) setProperty(node, name, value);
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : clean(child));
  }
  // A select has its options only now.
  if (node.localName === 'select' && properties?.value !== undefined) node.value = properties.value;
  return node;
}

function setProperty(node, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (HANDLERS.includes(name) || PROPERTIES.includes(name)) node[name] = value;
  else if (name.startsWith('on') || name === 'style') throw new Error(`${name} has no place here`);
  else node.setAttribute(name, value === true ? '' : String(value));
}

/** Makes these the children of `target`, and keeps every node that is there already: focus, text and scrolling stay. */
export function paint(target, ...children) {
  const fresh = document.createElement('div');
  fill(fresh, null, children);
  patchChildren(target, fresh);
}

function patchChildren(old, fresh) {
  const keyed = new Map([...old.children].filter((c) => c.dataset.key).map((c) => [c.dataset.key, c]));
  let at = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const key = next.dataset?.key;
    const same = key ? keyed.get(key) : at && !at.dataset?.key && at;
    if (!same || same.nodeName !== next.nodeName) {
      old.insertBefore(next, at);
      continue;
    }
    if (same === at) at = at.nextSibling;
    else old.insertBefore(same, at);
    patch(same, next);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function patch(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  const ours = (name) => name === 'open' && (old.localName === 'details' || old.localName === 'dialog');
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !ours(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && !ours(name)) old.setAttribute(name, value);
  }
  for (const name of HANDLERS) old[name] = fresh[name];
  if (old.type === 'checkbox') Object.assign(old, { checked: fresh.checked, indeterminate: fresh.indeterminate });
  patchChildren(old, fresh);
}

/** A table; on a phone each row is a block whose cells carry their column's name. Columns: `[name, row => cell, class]`. */
export function table(caption, columns, rows, { key, rowClass, cls } = {}) {
  const used = columns.filter(Boolean);
  const head = used.map(([name, , cls]) => h('th', { scope: 'col', role: 'columnheader', class: cls }, name));
  const body = rows.map((row) => {
    const cells = used.map(([name, cell, cls]) =>
      h('td', { role: 'cell', class: cls, 'data-label': labelText(name) }, h('div', null, cell(row))),
    );
    const properties = { role: 'row', 'data-key': key?.(row), class: rowClass?.(row) };
    return h('tr', properties, cells);
  });
  return h(
    'div',
    { class: 'table' },
    h(
      'table',
      { role: 'table', class: cls },
      h('caption', { class: 'unseen' }, caption),
      h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, head)),
      h('tbody', { role: 'rowgroup' }, body),
    ),
  );
}

function labelText(name) {
  return typeof name === 'string' ? name : '';
}

/** Names and what they are; pairs whose value is null or undefined are left out. */
export function facts(...pairs) {
  const told = pairs.filter((pair) => pair && pair[1] !== null && pair[1] !== undefined);
  return h(
    'dl',
    { class: 'facts' },
    told.map(([name, value]) => h('div', null, h('dt', null, name), h('dd', null, value))),
  );
}
