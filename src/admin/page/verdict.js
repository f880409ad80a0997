// Is money flowing? What the overview says first, and what to do when it is not.

import { count, many, span } from './format.js';
import { age } from './time.js';

// From when on each of these is worth a word.
const BEHIND_SECONDS = 300;
const CERTIFICATE_DAYS = 14;
const USUAL_A_DAY = 48;

const RANK = { bad: 0, warn: 1, note: 2 };

/** `{ level, sentence, more, findings: [{ level, text, todo, href, act }] }`, the worst finding first. */
export function verdict(overview) {
  const findings = [
    readiness,
    silence,
    ...overview.sinks.map((sink) => () => place(sink)),
    noSink,
    letters,
    quarantine,
    certificate,
  ]
    .map((look) => look(overview))
    .filter(Boolean)
    .sort((a, b) => RANK[a.level] - RANK[b.level]);
  return { ...sentence(overview, findings), findings };
}

function sentence(overview, findings) {
  const stuck = overview.sinks.filter((sink) => sink.state === 'open' || (sink.state === 'paused' && sink.lag > 0));
  const names = list(stuck.map((sink) => sink.name));
  if (!overview.ready) return { level: 'bad', sentence: 'Money is not flowing: the relay takes no deliveries.' };
  if (overview.certificate?.seconds_left <= 0)
    return { level: 'bad', sentence: 'Money is not flowing: the TLS certificate has expired.' };
  if (overview.last_event_at === null) return { level: 'warn', sentence: 'Ready, but no event has arrived yet.' };
  if (stuck.length)
    return {
      level: stuck.some((s) => s.state === 'open') ? 'bad' : 'warn',
      sentence: `Events come in, but do not reach ${names}.`,
    };
  if (findings.some((finding) => finding.silent))
    return { level: 'warn', sentence: `Nothing has arrived for ${span(age(overview.last_event_at))}.` };
  const behind = overview.sinks.filter((sink) => sink.state === 'running' && sink.lag_seconds > BEHIND_SECONDS);
  if (behind.length)
    return {
      level: 'warn',
      sentence: `Money is flowing, but ${list(behind.map((sink) => sink.name))} ${behind.length > 1 ? 'are' : 'is'} behind.`,
    };
  const decide = findings.some((finding) => finding.level === 'bad' || finding.waits);
  return {
    level: decide ? 'warn' : 'ok',
    sentence: `Money is flowing${decide ? ', and something waits for a person' : ''}.`,
  };
}

/** What stands below the sentence. */
export function summary(overview) {
  const sinks = overview.sinks.filter((sink) => sink.state !== 'removed');
  const sum = (name) => sinks.reduce((all, sink) => all + (sink[name] ?? 0), 0);
  const [lag, parked] = [sum('lag'), sum('parked')];
  if (overview.last_event_at === null) return overview.ready ? 'The relay is ready to receive.' : '';
  if (parked)
    return `${many(lag + parked, 'delivery', 'deliveries')} to go; ${count(parked)} of them wait for another attempt.`;
  if (lag) return `${many(lag, 'delivery', 'deliveries')} to go.`;
  return `Every sink has got every event that is meant for it${overview.dead_letters ? ', but for the dead letters' : ''}.`;
}

function list(names) {
  return names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}

function readiness({ ready, reasons }) {
  if (ready) return null;
  return {
    level: 'bad',
    text: `Not ready: ${reasons.join('; ') || 'no reason given'}.`,
    todo: 'Ralio gets 503 and sends again, so nothing is lost yet. Look into the log (journalctl -u ralio-relay) for level ERROR.',
  };
}

function silence({ last_event_at: last, last_hour: hour, last_24h: day, ready }) {
  if (!ready) return null;
  if (last === null) {
    return {
      level: 'warn',
      text: 'No event has ever arrived.',
      todo: 'Register the endpoint in the Ralio portal, under the path of a source below; or try it with ralio-relay simulate.',
    };
  }
  if (hour > 0 || (day > 0 && day < USUAL_A_DAY)) return null;
  return {
    level: 'warn',
    silent: true,
    text: day ? `No event in the last hour, while the last day had ${count(day)}.` : 'No event in the last 24 hours.',
    todo: 'Perhaps nothing was to be told. Else: is the endpoint still registered in the Ralio portal, and reachable from the internet?',
  };
}

function place(sink) {
  const waiting =
    sink.lag > 0
      ? ` ${many(sink.lag, 'event')} ${sink.lag === 1 ? 'waits' : 'wait'}, the oldest for ${span(sink.lag_seconds ?? 0)}.`
      : '';
  const href = `#/sinks?name=${encodeURIComponent(sink.name)}`;
  if (sink.state === 'open') {
    return {
      level: 'bad',
      text: `${sink.name} takes nothing: its breaker has been open for ${span(age(sink.breaker_open_since))}.${waiting}`,
      href,
      act: 'Look at the sink',
      todo: 'Mend the far side. It is probed until it answers, then goes on by itself; nothing is lost meanwhile.',
    };
  }
  if (sink.state === 'paused') {
    return {
      level: 'warn',
      text: `${sink.name} has been paused for ${span(age(sink.paused_since))}.${waiting}`,
      href,
      act: 'Look at the sink',
      todo: 'Somebody paused it: the record says who and why. Resume it when that is over.',
    };
  }
  if (sink.state === 'running' && sink.lag_seconds > BEHIND_SECONDS) {
    return {
      level: 'warn',
      text: `${sink.name} is behind.${waiting}`,
      href,
      act: 'Look at the sink',
      todo: 'Is its far side slow, or failing for some orders? The attempts of the oldest waiting event tell.',
    };
  }
  return null;
}

function noSink({ sinks }) {
  if (sinks.some((sink) => sink.state !== 'removed')) return null;
  return {
    level: 'warn',
    text: 'No sink is configured: events are stored, and go nowhere.',
    todo: 'Add a [[sinks]] table to the configuration, and have it read again: systemctl reload ralio-relay.',
  };
}

function letters({ dead_letters: dead }) {
  if (!dead) return null;
  return {
    level: 'bad',
    text: `${many(dead, 'dead letter')} ${dead === 1 ? 'waits' : 'wait'} for a person.`,
    href: '#/dead-letters',
    act: 'Decide',
    todo: 'Each was refused for good, or failed for too long. Mend the cause and retry, or discard with a reason.',
  };
}

function quarantine({ quarantine: { entries, max_entries: most } }) {
  if (!entries) return null;
  const full = most && entries > most * 0.8 ? `, of at most ${count(most)}` : '';
  return {
    level: full ? 'bad' : 'warn',
    // Genuine ones may be among them, and then money is not flowing: only a person can tell.
    waits: true,
    text: `${many(entries, 'request')} refused for ${entries === 1 ? 'its' : 'their'} signature${full}.`,
    href: '#/quarantine',
    act: 'Look',
    todo: 'An attack or a scanner, or genuine ones while a secret here was stale. With the right secret in place, admit them: what is genuine gets in.',
  };
}

function certificate({ certificate: held }) {
  if (!held || held.seconds_left > CERTIFICATE_DAYS * 86400) return null;
  const over = held.seconds_left <= 0;
  return {
    level: over ? 'bad' : 'warn',
    text: over
      ? 'The TLS certificate has expired: Ralio cannot deliver.'
      : `The TLS certificate expires in ${span(held.seconds_left)}.`,
    todo: 'Replace the files that server.tls names: they are read again without a restart.',
  };
}
