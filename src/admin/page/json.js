// A body for reading: JSON with line breaks, every number and string exactly as it came (1.10 stays 1.10), what is
// personal hidden until asked for. Works on the text: going through numbers would change them.

import { h } from './dom.js';
import { personal, personalKey } from './mask.js';

const HIDDEN = '\u2022\u2022\u2022\u2022\u2022\u2022';
// A string, a number or word, or a mark.
const TOKEN = /"(?:[^"\\]+|\\.)*"|[-+.\w]+|[{}[\],:]/gs;
const DEEPEST = 60;

/** The lines of a JSON text, each `{ depth, parts: [{ kind, text, why }] }`; null when it is not JSON. */
export function lines(text) {
  try {
    // Only to know whether it is JSON: of members given twice it would take the last, and the relay takes the first.
    JSON.parse(text);
  } catch {
    return null;
  }
  const writer = new Writer();
  const tokens = text.match(TOKEN) ?? [];
  tokens.forEach((token, at) => writer.take(token, tokens[at + 1]));
  return writer.lines;
}

/** Puts tokens into lines, and knows the path to each. */
class Writer {
  lines = [{ depth: 0, parts: [] }];
  path = [];
  open = [];

  take(token, next) {
    if (token === '{' || token === '[') this.begin(token, next);
    else if (token === '}' || token === ']') this.end(token);
    else if (token === ',') this.comma();
    else if (token === ':') this.add('mark', ': ');
    else if (this.isKey(next)) this.key(token);
    else this.value(token);
  }

  isKey(next) {
    return this.open.at(-1) === '{' && next === ':';
  }

  begin(token, next) {
    this.add('mark', token);
    this.open.push(token);
    this.path.push(token === '[' ? 0 : '');
    if (next !== '}' && next !== ']') this.line();
  }

  end(token) {
    const empty =
      /[[{]$/.test(this.lines.at(-1).parts.at(-1)?.text ?? '') && this.lines.at(-1).parts.at(-1).kind === 'mark';
    this.open.pop();
    this.path.pop();
    if (!empty) this.line();
    this.add('mark', token);
  }

  comma() {
    this.add('mark', ',');
    if (this.open.at(-1) === '[') this.path[this.path.length - 1] += 1;
    this.line();
  }

  key(token) {
    const key = JSON.parse(token);
    this.path[this.path.length - 1] = key;
    this.add('key', token, personalKey(key));
  }

  value(token) {
    const isText = token.startsWith('"');
    const isNumber = !isText && !/^(true|false|null)$/.test(token);
    const content = isText ? JSON.parse(token) : isNumber ? token : null;
    this.add(isText ? 'text' : isNumber ? 'number' : 'word', token, personal(this.path, content, isNumber));
  }

  add(kind, text, why = null) {
    this.lines.at(-1).parts.push({ kind, text, why });
  }

  line() {
    this.lines.push({ depth: this.open.length, parts: [] });
  }
}

/** How many values of these lines are hidden. */
export function hiddenIn(all) {
  return all.reduce((sum, line) => sum + line.parts.filter((part) => part.why).length, 0);
}

/** Lines as a block of code. */
export function block(all, masked) {
  const shown = all.map(({ depth, parts }) =>
    h(
      'span',
      { class: 'line' },
      '  '.repeat(Math.min(depth, DEEPEST)),
      parts.map((part) => piece(part, masked)),
      '\n',
    ),
  );
  return h('pre', { class: 'body', tabindex: '0', role: 'region', 'aria-label': 'What it says' }, shown);
}

function piece({ kind, text, why }, masked) {
  if (!why) return kind === 'mark' ? text : h('span', { class: `j-${kind}` }, text);
  if (!masked) return h('span', { class: `j-${kind} bared` }, text);
  return h(
    'span',
    { class: 'hidden', title: `hidden: ${why}` },
    h('span', { 'aria-hidden': 'true' }, HIDDEN),
    h('span', { class: 'unseen' }, 'hidden'),
  );
}
