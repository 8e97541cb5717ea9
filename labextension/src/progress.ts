import type { JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Clipboard, Dialog, Notification } from '@jupyterlab/apputils';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { Poll } from '@lumino/polling';

import { cancel, launches, type ILaunch } from './request';

const EVENT = 'urn:tfgpu-kernel:launch:v1';

/** Shows each launch as a notification with Cancel, and a failed one with its remedy. */
export const progress: JupyterFrontEndPlugin<void> = {
  id: '@tfgpu/labextension:progress',
  description: 'Shows how far the launch of a kernel is, and why it failed.',
  autoStart: true,
  optional: [ITranslator],
  activate: (app, translator: ITranslator | null) => {
    const trans = (translator ?? nullTranslator).load('tfgpu_kernel');
    const shown = new Map<string, string>();
    const over = new Set<string>();
    const told = new Set<string>();
    let first = true;

    // Lab shows a failed start in a dialog of its own: not a second time
    const closeLabsDialogs = (): void => {
      Dialog.tracker.forEach(dialog => {
        const text = dialog.node.querySelector('pre')?.textContent ?? '';
        if ([...told].some(message => text.startsWith(message))) {
          dialog.reject();
        }
      });
    };
    Dialog.tracker.widgetAdded.connect(() => {
      // the dialog's text is rendered by React, after it was added
      window.setTimeout(closeLabsDialogs, 50);
    });

    const show = (launch: ILaunch): void => {
      const key = `${launch.kernel_id} ${launch.started}`;
      const id = shown.get(key);
      if (launch.ended !== null) {
        if (id !== undefined) {
          shown.delete(key);
          Notification.dismiss(id);
        }
        if (over.has(key)) {
          return;
        }
        over.add(key);
        // what ended before this page was opened is history
        if (first) {
          return;
        }
        const failure = launch.failure;
        if (failure) {
          told.add(failure.message);
          closeLabsDialogs();
          if (launch.phase === 'cancelled') {
            return;
          }
          const text = `${failure.message}\n${trans.__('What to do: %1', failure.remedy)}`;
          Notification.error(text, {
            autoClose: false,
            actions: [
              {
                label: trans.__('Copy'),
                callback: () => {
                  Clipboard.copyToSystem(`${text}\n${failure.details}`);
                }
              }
            ]
          });
        }
        return;
      }
      const message = `${launch.path} ${launch.text}`.trim();
      const options = {
        autoClose: false as const,
        progress: launch.fraction ?? undefined,
        actions: [
          {
            label: trans.__('Cancel'),
            callback: () => void cancel(launch.kernel_id)
          }
        ]
      };
      if (id === undefined) {
        shown.set(key, Notification.emit(message, 'in-progress', options));
      } else {
        Notification.update({ id, message, type: 'in-progress', ...options });
      }
    };

    // events are hints and can be lost, so a slow poll stands behind them
    const poll = new Poll({
      name: '@tfgpu/labextension:launches',
      frequency: { interval: 5000, backoff: true, max: 60000 },
      standby: 'when-hidden',
      factory: async () => {
        (await launches()).forEach(show);
        first = false;
      }
    });
    app.serviceManager.events.stream.connect((_, event) => {
      if (event.schema_id === EVENT) {
        void poll.refresh();
      }
    });
  }
};
