import type { TranslationBundle } from '@jupyterlab/translation';

import type { Action, IFailure, ILaunch } from './records';

/** What a launch is doing, in one line: `Downloading x, 3.1 MB/s · 2.1 of 6.6 GB · 4 min left`. */
export function progressText(
  launch: ILaunch,
  trans: TranslationBundle
): string {
  const parts = [launch.text || trans.__('Starting the kernel')];
  if (
    ['downloading', 'unpacking'].includes(launch.phase) &&
    launch.done !== null &&
    launch.total
  ) {
    parts.push(amount(launch.done, launch.total, trans));
  }
  if (launch.seconds_left !== null && launch.seconds_left > 0) {
    parts.push(trans.__('%1 left', duration(launch.seconds_left, trans)));
  }
  return parts.join(' · ');
}

/** Bytes done of a total, in the total's unit. */
export function amount(
  done: number,
  total: number,
  trans: TranslationBundle
): string {
  const [unit, name] = total >= 1e9 ? [1e9, 'GB'] : [1e6, 'MB'];
  const digits = unit === 1e9 ? 1 : 0;
  return trans.__(
    '%1 of %2 %3',
    (done / unit).toFixed(digits),
    (total / unit).toFixed(digits),
    name
  );
}

/** A time to wait, as coarse as one can know it. */
export function duration(seconds: number, trans: TranslationBundle): string {
  return seconds < 90
    ? trans.__('%1 s', Math.max(1, Math.round(seconds)))
    : trans.__('%1 min', Math.round(seconds / 60));
}

/** A failure as plain text, to be copied into a question to somebody. */
export function failureText(
  failure: IFailure,
  trans: TranslationBundle
): string {
  const parts = [failure.message];
  if (failure.remedy) {
    parts.push(trans.__('What to do: %1', failure.remedy));
  }
  if (failure.details) {
    parts.push(failure.details);
  }
  return parts.join('\n\n');
}

/** What an action's button says. */
export function actionLabel(action: Action, trans: TranslationBundle): string {
  switch (action) {
    case 'retry':
      return trans.__('Try Again');
    case 'start-on-cpu':
      return trans.__('Start on CPU');
    case 'use-preset':
      return trans.__('Use Another Image…');
    case 'free-gpu':
      return trans.__('Shut Down a Notebook…');
    case 'open-doctor':
      return trans.__('Open Doctor');
  }
}
