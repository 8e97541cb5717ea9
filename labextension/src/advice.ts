import type { JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

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

    const refresh = async (silent: boolean): Promise<void> => {
      for (const notice of await notices()) {
        const key = `${notice.kernel_id} ${notice.time}`;
        if (told.has(key)) {
          continue;
        }
        told.add(key);
        // what was so before this page was opened is history
        if (silent) {
          continue;
        }
        tell(notice.failure, trans);
      }
    };

    // a server that doesn't answer is told elsewhere
    const ask = (silent: boolean): void =>
      void refresh(silent).catch(() => undefined);
    ask(true);
    app.serviceManager.events.stream.connect((_, event) => {
      if (event.schema_id === EVENT) {
        ask(false);
      }
    });
  }
};
