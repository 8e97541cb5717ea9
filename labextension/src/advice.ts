import type { JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { Poll } from '@lumino/polling';

import { anew } from './poll';
import { notices } from './request';
import { tell } from './tell';

const EVENT = 'urn:tfgpu-kernel:notice:v1';

/** Tells what must be told of kernels that go on: one runs on the CPU, one lost its GPU. */
export const advice: JupyterFrontEndPlugin<void> = {
  id: '@tfgpu/labextension:advice',
  description: 'Tells that a kernel runs on the CPU, or has lost its GPU.',
  autoStart: true,
  optional: [ITranslator],
  activate: (app, translator: ITranslator | null) => {
    const trans = (translator ?? nullTranslator).load('tfgpu_kernel');
    const told = new Set<string>();

    let first = true;

    const refresh = async (): Promise<void> => {
      for (const notice of await notices()) {
        const key = `${notice.kernel_id} ${notice.time}`;
        if (told.has(key)) {
          continue;
        }
        told.add(key);
        // what was so before this page was opened is history
        if (!first) {
          tell(notice.failure, trans);
        }
      }
      first = false;
    };

    // events are hints and can be lost, so a slow poll stands behind them
    const poll = new Poll({
      name: '@tfgpu/labextension:advice',
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
