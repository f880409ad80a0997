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

// A day, perhaps with a time of day, and without a zone.
const TYPED = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?:(:\d\d)(\.\d+)?)?)?$/i;

/**
 * What somebody has typed for a time, as the API is to have it: days and times without a zone are of the zone that is
 * shown, and become RFC 3339. Where clocks go back, the first of the two is meant. All else stays as it is typed.
 */
export function moment(typed) {
  const text = typed.trim();
  const found = TYPED.exec({ today: dayOf(0), yesterday: dayOf(1) }[text] ?? text);
  if (!found) return typed;
  const [, day, clock = '00:00', seconds = ':00', fraction = ''] = found;
  const local = `${day}T${clock}${seconds}`;
  const asUtc = new Date(`${local}Z`);
  // A day such as 31 February is none, and some browsers would take it for one of March.
  if (Number.isNaN(asUtc.getTime()) || !asUtc.toISOString().startsWith(local)) return typed;
  const at = utc ? asUtc : new Date(local);
  return `${at.toISOString().slice(0, 19)}${fraction}Z`;
}

/** Filters as the API is to have them: their times in RFC 3339. */
export function withMoments(filter) {
  const named = ['since', 'until'].filter((name) => filter[name]);
  return { ...filter, ...Object.fromEntries(named.map((name) => [name, moment(filter[name])])) };
}

/** The day so many days before today. */
function dayOf(back) {
  const [today] = parts(new Date(now()));
  return new Date(Date.parse(`${today}T00:00:00Z`) - back * 86400000).toISOString().slice(0, 10);
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
  const exact =
    form === 'ago' ? '' : absolute(iso, whole) + (whole ? ` ${utc ? 'UTC' : localZone(new Date(iso))}` : '');
  const texts = [exact, relative(iso)];
  [...node.children].forEach((child, at) => {
    if (child.textContent !== texts[at]) child.textContent = texts[at];
  });
}

/** Brings every time on the page up to date. */
export function tick() {
  for (const node of document.querySelectorAll('time[data-form]')) draw(node);
}
