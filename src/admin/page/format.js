// Numbers, sizes, spans of time and states, in words.

const INTEGER = new Intl.NumberFormat('en-GB');

/** An integer with separators. */
export function count(number) {
  return number === null || number === undefined ? '\u2013' : INTEGER.format(number);
}

/** `1 event`, `2 events`. */
export function many(number, one, more = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : more}`;
}

/** Bytes, in the unit that fits. */
export function bytes(number) {
  if (number === null || number === undefined) return '\u2013';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let [value, unit] = [number, 0];
  while (value >= 1024 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${unit && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** A span of time, in its two largest units. */
export function span(seconds) {
  const total = Math.max(0, Math.round(seconds));
  const pair = (large, unit, small, less) => (small ? `${large} ${unit} ${small} ${less}` : `${large} ${unit}`);
  if (total < 60) return `${total} s`;
  if (total < 3600) return pair(Math.floor(total / 60), 'min', total < 600 ? total % 60 : 0, 's');
  if (total < 86400) return pair(Math.floor(total / 3600), 'h', Math.floor((total % 3600) / 60), 'min');
  const days = Math.floor(total / 86400);
  return pair(days, 'd', days < 10 ? Math.floor((total % 86400) / 3600) : 0, 'h');
}

/** Milliseconds. */
export function latency(milliseconds) {
  if (milliseconds < 1) return 'under 1 ms';
  return milliseconds < 1000 ? `${count(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

// Each word that the relay uses for a state: how it is shown, and how it is to be taken.
const STATES = {
  running: ['running', 'ok'],
  paused: ['paused', 'warn'],
  failing: ['failing', 'bad'],
  down: ['down', 'bad'],
  unavailable: ['unavailable', 'bad'],
  new: ['new', 'note'],
  removed: ['removed', 'note'],
  delivered: ['delivered', 'ok'],
  filtered: ['filtered', 'note'],
  dead_letter: ['dead letter', 'bad'],
  discarded: ['discarded', 'note'],
  waiting: ['waiting', 'note'],
  parked: ['parked', 'warn'],
  before_start: ['before its start', 'note'],
  transient: ['failed, tried again', 'warn'],
  permanent: ['refused', 'bad'],
  timeout: ['timed out', 'warn'],
  unknown: ['unknown', 'warn'],
  retry: ['failed, tried again', 'warn'],
  retried: ['failed, tried again', 'warn'],
  queued: ['queued', 'note'],
  done: ['done', 'ok'],
  failed: ['failed', 'bad'],
  cancelled: ['cancelled', 'note'],
  ready: ['ready', 'ok'],
  starting: ['starting', 'warn'],
};

/** How a state of the relay's is shown: its words, and `ok`, `warn`, `bad` or `note`. */
export function stateWords(state) {
  return STATES[state] ?? [String(state).replaceAll('_', ' '), 'note'];
}

/** How to take a state that an event reports, such as COMPLETED. */
export function reportedLevel(state) {
  if (/^(COMPLETED|SETTLED|VERIFIED|ACTIVE|ACTIVATED|REGULAR)$/i.test(state)) return 'ok';
  return /^(FAILED|REJECTED|EXPIRED|CANCELLED)$/i.test(state) ? 'bad' : 'note';
}

/** What a person may ask for, as nouns. */
export const TASKS = {
  pause: 'pause',
  resume: 'resume',
  rename: 'rename',
  retry: 'retry of dead letters',
  discard: 'discard of dead letters',
  retry_parked: 'retry of parked events',
  discard_parked: 'discard of parked events',
  try: 'try',
  forget: 'forgetting',
  admit: 'admission from quarantine',
  purge: 'purge of quarantine',
  prune: 'pruning of bodies',
  confirm_clock: 'believing the clock',
  replay: 'replay',
  cancel: 'cancelling',
};

/** What a job does, as a noun. */
export function taskWords(task) {
  return TASKS[task] ?? String(task);
}
