// Asking again and again, with pauses, and only while somebody looks.

import { ApiError } from './api.js';
import { paint } from './dom.js';
import { problem } from './parts.js';

/** What has been changed here may be on view: asks again at once. */
export function changed() {
  window.dispatchEvent(new Event('changed'));
}

/** Does the work now, and again `seconds` after its end, until the signal; never while the tab is hidden. */
export function poll(signal, seconds, work) {
  let [timer, busy, again] = [0, false, false];
  const run = async () => {
    clearTimeout(timer);
    if (busy) {
      again = true;
      return;
    }
    if (signal.aborted || document.hidden) return;
    busy = true;
    await work();
    busy = false;
    timer = setTimeout(run, again ? 0 : seconds * 1000);
    again = false;
  };
  document.addEventListener('visibilitychange', run, { signal });
  window.addEventListener('changed', run, { signal });
  signal.addEventListener('abort', () => clearTimeout(timer));
  run();
}

/** A failure that a person can be told of; any other is a fault of this page, and for the console as well. */
export function told(error) {
  if (!(error instanceof ApiError)) console.error(error);
  return error;
}

/** Keeps `main` showing what `render` makes of what `load` finds. Without an answer the last one stays, marked as old. */
export function live(main, signal, seconds, load, render) {
  let [data, failed] = [null, null];
  const draw = () => {
    if (!signal.aborted)
      paint(
        main,
        failed && problem(failed, { old: data !== null, whole: data === null }),
        data !== null && render(data),
      );
  };
  poll(signal, seconds, async () => {
    try {
      data = await load(signal);
      failed = null;
    } catch (error) {
      if (signal.aborted) return;
      failed = told(error);
    }
    main.removeAttribute('aria-busy');
    draw();
  });
  return draw;
}
