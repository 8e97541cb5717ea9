import type { JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Notification } from '@jupyterlab/apputils';
import {
  ITranslator,
  nullTranslator,
  type TranslationBundle
} from '@jupyterlab/translation';
import { Poll } from '@lumino/polling';

import { bytes } from './format';
import { tellError } from './jobs';
import { anew } from './poll';
import type { IIdleWarning } from './records';
import { idleWarnings, keepKernel } from './request';

const EVENT = 'urn:tfgpu-kernel:idle:v1';

/** Who holds what, since when it is idle, and when it ends. */
export function words(warning: IIdleWarning, trans: TranslationBundle): string {
  const name =
    warning.path.split('/').pop() ||
    trans.__('A kernel (%1)', warning.kernel_name);
  const gpus = warning.gpus.length
    ? trans.__('GPU %1', warning.gpus.join(', '))
    : trans.__('a GPU');
  const held = warning.used_bytes
    ? `${gpus} (${bytes(warning.used_bytes)})`
    : gpus;
  const time = (seconds: number): string =>
    new Date(1000 * seconds).toLocaleTimeString();
  return trans.__(
    '%1 holds %2 and has done nothing since %3. Its kernel is shut down at %4, and its variables are lost.',
    name,
    held,
    time(warning.idle_since),
    time(warning.ends)
  );
}

/** Warns of kernels that will be shut down because they hold a GPU and are idle; one click keeps them. */
export const idle: JupyterFrontEndPlugin<void> = {
  id: '@tfgpu/labextension:idle',
  description: 'Warns before an idle kernel that holds a GPU is shut down.',
  autoStart: true,
  optional: [ITranslator],
  activate: (app, translator: ITranslator | null) => {
    const trans = (translator ?? nullTranslator).load('tfgpu_kernel');
    /** The notification of each kernel that is warned of, and the end that it tells. */
    const shown = new Map<string, { id: string; ends: number }>();

    const show = (warning: IIdleWarning): string =>
      Notification.warning(words(warning, trans), {
        autoClose: false,
        actions: [
          {
            label: trans.__('Keep It'),
            displayType: 'accent',
            callback: () => void keep(warning)
          },
          ...(warning.path
            ? [
                {
                  label: trans.__('Open'),
                  callback: (event: MouseEvent) => {
                    // looking at a notebook decides nothing
                    event.preventDefault();
                    void app.commands.execute('docmanager:open', {
                      path: warning.path
                    });
                  }
                }
              ]
            : [])
        ]
      });

    const keep = async (warning: IIdleWarning): Promise<void> => {
      try {
        await keepKernel(warning.kernel_id);
      } catch (error) {
        // the click took the warning away, but it still holds
        shown.delete(warning.kernel_id);
        tellError(trans.__('The kernel is not kept.'), error);
        await anew(poll);
      }
    };

    const refresh = async (): Promise<void> => {
      const warnings = await idleWarnings();
      for (const [kernelId, { id, ends }] of shown) {
        if (
          !warnings.some(one => one.kernel_id === kernelId && one.ends === ends)
        ) {
          Notification.dismiss(id);
          shown.delete(kernelId);
        }
      }
      for (const warning of warnings) {
        if (!shown.has(warning.kernel_id)) {
          const id = show(warning);
          shown.set(warning.kernel_id, { id, ends: warning.ends });
        }
      }
    };

    // events are hints and can be lost, so a slow poll stands behind them
    const poll = new Poll({
      name: '@tfgpu/labextension:idle',
      frequency: { interval: 30000, backoff: true, max: 120000 },
      standby: 'when-hidden',
      factory: refresh
    });
    app.serviceManager.events.stream.connect((_, event) => {
      if (event.schema_id === EVENT) {
        void anew(poll);
      }
    });
  }
};
