// Times: relative and exact beside each other, in local time or UTC, by the relay's clock.

import { h } from './dom.js';
import { span } from './format.js';

const KEY = 'ralio-relay.utc';
let utc = sessionStorage.getItem(KEY) === '1';
let offset = 0;

/** The relay's clock says this: what is relative is relative to it, whatever this machine's clock says. */
export function setNow(iso) {
  offset = Date.parse(iso) - Date.now();
}

/** Now, by the relay's clock, in milliseconds. */
export function now() {
  return Date.now() + offset;
}

/** Whether times are shown in UTC. */
export function isUtc() {
  return utc;
}

/** Shows times in UTC, or in local time. */
export function setUtc(value) {
  utc = value;
  sessionStorage.setItem(KEY, value ? '1' : '0');
  tick();
}

/** The local zone by its distance from UTC at that moment, such as `UTC+01:00`: in summer it is another. */
export function localZone(at = new Date()) {
  const minutes = -at.getTimezoneOffset();
  if (!minutes) return 'UTC';
  const two = (n) => String(Math.floor(n)).padStart(2, '0');
  const away = Math.abs(minutes);
  return `UTC${minutes < 0 ? '\u2212' : '+'}${two(away / 60)}:${two(away % 60)}`;
}

/** How long ago, or until. */
export function relative(iso) {
  const seconds = (now() - Date.parse(iso)) / 1000;
  if (Math.abs(seconds) < 2) return 'now';
  return seconds > 0 ? `${span(seconds)} ago` : `in ${span(-seconds)}`;
}

/** Seconds since then. */
export function age(iso) {
  return iso ? (now() - Date.parse(iso)) / 1000 : null;
}

/** The moment to the second; today without the date, unless `whole`. */
export function absolute(iso, whole = false) {
  const [day, clock] = parts(new Date(iso));
  const [today] = parts(new Date(now()));
  return whole || day !== today ? `${day} ${clock}` : clock;
}

function parts(date) {
  const shifted = utc ? date : new Date(date.getTime() - date.getTimezoneOffset() * 60000);
  if (Number.isNaN(shifted.getTime())) return ['', 'unknown'];
  const text = shifted.toISOString();
  return [text.slice(0, 10), text.slice(11, 19)];
}

/** A time. `both`: exact, and relative beside it; `whole`: the same with date and zone; `ago`: relative only. */
export function time(iso, form = 'both') {
  if (!iso) return h('span', { class: 'dim' }, '\u2013');
  const exact = `${iso.replace('T', ' ').replace(/Z$/, '')} UTC`;
  const node = h(
    'time',
    { datetime: iso, title: exact, 'data-form': form },
    h('span', { class: 'abs' }),
    h('span', { class: 'rel' }),
  );
  draw(node);
  return node;
}

function draw(node) {
  const [form, iso] = [node.dataset.form, node.dateTime];
  const whole = form === 'whole';
  const exact = form === 'ago' ? '' : absolute(iso, whole) + (whole ? ` ${utc ? 'UTC' : localZone(new Date(iso))}` : '');
  const texts = [exact, relative(iso)];
  [...node.children].forEach((child, at) => {
    if (child.textContent !== texts[at]) child.textContent = texts[at];
  });
}

/** Brings every time on the page up to date. */
export function tick() {
  for (const node of document.querySelectorAll('time[data-form]')) draw(node);
}
