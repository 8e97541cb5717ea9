import { MainAreaWidget, Notification } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';

import type { IJob, Verb } from './records';
import { cancelJob, job, passes, report, startJob } from './request';

const EVERY_MS = 700;
/** So long an answer about a job may fail to come; the job goes on meanwhile. */
const LOST_MS = 60000;

/** Run a job with its progress as a notification; resolves when it is over. */
export async function runJob(
  verb: Verb,
  path: string,
  packages: string[],
  title: string,
  trans: TranslationBundle
): Promise<IJob> {
  let state = await startJob(verb, path, packages);
  const id = Notification.emit(title, 'in-progress', {
    autoClose: false,
    actions: [
      {
        label: trans.__('Cancel'),
        callback: () =>
          void cancelJob(state.id).catch((error: unknown) =>
            tellError(title, error)
          )
      }
    ]
  });
  try {
    while (state.state === 'running') {
      state = await follow(state.id);
      if (state.state !== 'running') {
        break; // a notification that is changed and taken away at once stays
      }
      Notification.update({
        id,
        message: state.text ? `${title}\n${state.text}` : title,
        type: 'in-progress',
        autoClose: false,
        ...(state.fraction !== null && { progress: state.fraction })
      });
    }
  } finally {
    Notification.dismiss(id);
  }
  return state;
}

/** Say what kept something from being done, until it is closed. */
export function tellError(title: string, error: unknown): void {
  const reason = error instanceof Error ? error.message : String(error);
  Notification.error([title, reason].join('\n'), { autoClose: false });
}

/** How far a job is, after a while; answers that are lost meanwhile don't lose the job. */
async function follow(id: string): Promise<IJob> {
  const began = Date.now();
  for (;;) {
    await new Promise(done => window.setTimeout(done, EVERY_MS));
    try {
      return await job(id);
    } catch (error) {
      if (!passes(error) || Date.now() - began > LOST_MS) {
        throw error;
      }
    }
  }
}

/** What a job said at its end, from its explanation on. */
export function lastWords(state: IJob): string {
  const remedy = state.lines.findIndex(line => line.startsWith('What to do:'));
  return (
    remedy > 0
      ? state.lines.slice(remedy - 1, remedy + 1)
      : state.lines.slice(-3)
  ).join('\n');
}

/** A page of a verification: HTML that may run nothing, in a frame without any right. */
export async function reportWidget(
  state: IJob,
  trans: TranslationBundle
): Promise<MainAreaWidget> {
  const frame = document.createElement('iframe');
  frame.setAttribute('sandbox', '');
  frame.title = trans.__('Report');
  frame.srcdoc = await report(state.id);
  const content = new Widget({ node: frame });
  content.addClass('tfgpu-report');
  const widget = new MainAreaWidget({ content });
  widget.title.label = trans.__('Verified: %1', state.path.split('/').pop());
  widget.title.closable = true;
  return widget;
}
