import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { INotebookTracker } from '@jupyterlab/notebook';
import {
  IRunningSessionManagers,
  type IRunningSessions
} from '@jupyterlab/running';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { Signal } from '@lumino/signaling';

import { actions } from './actions';
import { bytes, kernelName, rowsOn, sorted } from './format';
import { gpuIcon } from './icon';
import { IGpuModel } from './tokens';

/** GPU memory by notebook in Lab's own panel of what runs. */
export const running: JupyterFrontEndPlugin<void> = {
  id: '@tfgpu/labextension:running',
  description: 'Shows GPU memory by notebook in the Running panel.',
  autoStart: true,
  requires: [IGpuModel],
  // a notebook's page in Notebook 7 has no such panel
  optional: [IRunningSessionManagers, INotebookTracker, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    model: IGpuModel,
    managers: IRunningSessionManagers | null,
    notebooks: INotebookTracker | null,
    translator: ITranslator | null
  ) => {
    if (!managers) {
      return;
    }
    const trans = (translator ?? nullTranslator).load('tfgpu_kernel');
    const act = actions(app, model, notebooks, trans);
    const changed = new Signal<typeof model, void>(model);

    const items = (): IRunningSessions.IRunningItem[] => {
      const report = model.report;
      return (report?.gpus ?? []).flatMap(gpu =>
        [gpu, ...gpu.mig].flatMap(device =>
          sorted(rowsOn(device, report?.kernels ?? []), 'memory').map(
            ({ kernel, used_bytes }) => ({
              icon: () => gpuIcon,
              label: () => kernelName(kernel, trans),
              labelTitle: () => `${kernel.path}\n${gpu.name}`,
              detail: () =>
                trans.__('%1 on GPU %2', bytes(used_bytes), gpu.index),
              open: kernel.path ? () => void act('open', kernel) : undefined,
              shutdown: () => void act('shutdown', kernel)
            })
          )
        )
      );
    };

    // the list is drawn anew when its words change, not at each answer
    let shown = '';
    model.changed.connect(() => {
      const words = items()
        .map(item => `${item.labelTitle?.() ?? ''} ${item.detail?.() ?? ''}`)
        .join('\n');
      if (words !== shown) {
        shown = words;
        changed.emit();
      }
    });
    managers.add({
      name: trans.__('GPU Memory'),
      running: items,
      runningChanged: changed,
      refreshRunning: () => void model.refresh(),
      shutdownLabel: trans.__('Shut Down Kernel'),
      shutdownAll: () => {
        const ids = new Set(
          model.report?.gpus.flatMap(gpu =>
            [gpu, ...gpu.mig].flatMap(device =>
              rowsOn(device, model.report?.kernels ?? []).map(
                row => row.kernel.kernel_id
              )
            )
          )
        );
        void Promise.all(
          [...ids].map(id => app.serviceManager.kernels.shutdown(id))
        ).then(() => model.refresh());
      }
    });
  }
};
