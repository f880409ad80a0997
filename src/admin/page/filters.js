// Which events: the fields that the list of events and a replay share.

import { h } from './dom.js';
import { field, input, select } from './parts.js';

/** The names of the fields, as the API has them. */
export const NAMES = ['search', 'type', 'state', 'since', 'until', 'category', 'source', 'key', 'id'];

const CATEGORIES = ['payin', 'payout', 'transfer', 'kyc', 'account', 'other'];
const TYPES = [
  'payin.*',
  'payin.processing',
  'payin.completed',
  'payin.failed',
  'payout.*',
  'payout.processing',
  'payout.completed',
  'transfer.*',
  'kyc.*',
  'kyc.state_updated',
  'kyc.session_*',
  'kyb.state_updated',
  'related_party.*',
  'account.activated',
  'viban.*',
  '*.failed',
  'malformed',
];
const STATES = ['COMPLETED', 'PROCESSING', 'FAILED', 'VERIFIED', 'EXPIRED', 'ACTIVE', 'REGULAR', 'LIGHT'];

function choices(id, all) {
  return h(
    'datalist',
    { id },
    all.map((value) => h('option', { value })),
  );
}

/** The fields that most searches need. */
export function mainFields(now) {
  return [
    field('Text in the body', input('search', now.search, { type: 'search', placeholder: 'order number, reference…' })),
    field('Type', [input('type', now.type, { list: 'types', placeholder: 'payin.*' }), choices('types', TYPES)]),
    field('State', [
      input('state', now.state, { list: 'states', placeholder: 'COMPLETED' }),
      choices('states', STATES),
    ]),
    field('Since', input('since', now.since, { placeholder: '24h, 7d, 2026-01-31' })),
  ];
}

/** The others. */
export function moreFields(now, sources) {
  const every = [['', 'every'], ...CATEGORIES.map((name) => [name, name])];
  const all = [['', 'every'], ...sources.map((name) => [name, name])];
  if (now.source && !sources.includes(now.source)) all.push([now.source, now.source]);
  return [
    field('Until', input('until', now.until, { placeholder: '1h, 2026-01-31 10:00' })),
    field('Category', select('category', now.category, every)),
    field('Source', select('source', now.source, all)),
    field('Entity key', input('key', now.key, { placeholder: 'order, session or account' })),
    field('Event id', input('id', now.id)),
  ];
}

/** How many of the others are set. */
export function moreSet(now) {
  return ['until', 'category', 'source', 'key', 'id', 'order'].filter((name) => now[name]).length;
}
