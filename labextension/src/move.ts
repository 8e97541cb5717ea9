import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import {
  Dialog,
  ICommandPalette,
  InputDialog,
  showErrorMessage
} from '@jupyterlab/apputils';
import { INotebookTracker } from '@jupyterlab/notebook';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { restarter } from './actions';
import { bytes, modelName } from './format';
import { gpuIcon } from './icon';
import { moveKernel } from './request';
import { Commands, IGpuModel, type IKernel } from './tokens';

/** A GPU, or a part of one, that a kernel could have. */
interface IPlace {
  uuid: string;
  label: string;
}

/** The command that restarts the notebook's kernel on another GPU. */
export const move: JupyterFrontEndPlugin<void> = {
  id: '@tfgpu/labextension:move',
  description: 'Restarts a kernel on another GPU.',
  autoStart: true,
  requires: [IGpuModel, INotebookTracker],
  optional: [ICommandPalette, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    model: IGpuModel,
    notebooks: INotebookTracker,
    palette: ICommandPalette | null,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load('tfgpu_kernel');
    const restart = restarter(app, notebooks);

    const current = (): IKernel | null => {
      const id = notebooks.currentWidget?.sessionContext.session?.kernel?.id;
      return (
        model.report?.kernels.find(kernel => kernel.kernel_id === id) ?? null
      );
    };

    const others = (kernel: IKernel): IPlace[] =>
      (model.report?.gpus ?? []).flatMap(gpu =>
        // a GPU that is cut into MIG devices is lent in parts
        (gpu.mig.length ? gpu.mig : [gpu])
          .filter(device => !kernel.gpus.includes(device.uuid))
          .map(device => ({
            uuid: device.uuid,
            label: trans.__(
              'GPU %1, %2: %3 free',
              gpu.index,
              device === gpu
                ? modelName(gpu.name)
                : (device.name ?? device.uuid),
              bytes(device.memory?.free_bytes ?? null)
            )
          }))
      );

    app.commands.addCommand(Commands.restartOnGpu, {
      label: trans.__('Restart Kernel on Another GPU…'),
      icon: gpuIcon,
      isEnabled: () => {
        const kernel = current();
        return (
          kernel !== null && kernel.in_container && others(kernel).length > 0
        );
      },
      execute: async () => {
        const kernel = current();
        if (!kernel) {
          return;
        }
        const places = others(kernel);
        const answer = await InputDialog.getItem({
          title: trans.__('Restart the kernel on which GPU?'),
          label: trans.__(
            'Its variables are lost. The saved document stays as it is.'
          ),
          items: places.map(place => place.label),
          okLabel: trans.__('Restart')
        });
        const place = places.find(
          candidate => candidate.label === answer.value
        );
        if (!answer.button.accept || !place) {
          return;
        }
        try {
          await moveKernel(kernel.kernel_id, [place.uuid]);
          await restart(kernel);
        } catch (error) {
          await showErrorMessage(
            trans.__('The kernel did not start on that GPU'),
            error instanceof Error ? error.message : String(error),
            [Dialog.okButton()]
          );
        }
        await model.refresh();
      }
    });
    palette?.addItem({
      command: Commands.restartOnGpu,
      category: trans.__('GPU')
    });
    model.changed.connect(() => {
      app.commands.notifyCommandChanged(Commands.restartOnGpu);
    });
  }
};
