import type { JupyterFrontEnd } from '@jupyterlab/application';
import {
  Dialog,
  InputDialog,
  showDialog,
  showErrorMessage,
  type ISessionContext
} from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';

import { activity, bytes, kernelName } from './format';
import type { Action } from './records';
import { installPreset, suitingPreset } from './request';
import { Commands, type IGpuModel, type IKernel } from './tokens';

const CPU_KERNEL = 'tfcpu';
const GB = 1e9;

/** Does what a failure's button says; resolves to whether the failure is dealt with. */
export type Perform = (
  action: Action,
  context: ISessionContext,
  kernel: string
) => Promise<boolean>;

/** Whether an action makes sense for a notebook as it is. */
export function possible(
  action: Action,
  context: ISessionContext,
  app: JupyterFrontEnd,
  model: IGpuModel | null
): boolean {
  const kernel = context.session?.kernel;
  switch (action) {
    case 'retry':
      return (
        !kernel ||
        context.hasNoKernel ||
        ['dead', 'unknown'].includes(kernel.status)
      );
    case 'start-on-cpu':
      return context.specsManager.specs?.kernelspecs[CPU_KERNEL] !== undefined;
    case 'use-preset':
      return true;
    case 'free-gpu':
      return model !== null;
    case 'open-doctor':
      return app.commands.hasCommand(Commands.doctor);
  }
}

/** Make the function that does actions. */
export function performer(
  app: JupyterFrontEnd,
  model: IGpuModel | null,
  trans: TranslationBundle
): Perform {
  const usePreset = async (
    context: ISessionContext,
    kernel: string
  ): Promise<boolean> => {
    const preset = await suitingPreset();
    const size = (preset.size_bytes / GB).toFixed(0);
    const answer = await showDialog({
      title: trans.__('Use %1?', preset.name),
      body: [
        `${preset.reference}: ${preset.inside}.`,
        preset.built
          ? trans.__('About %1 GB; it is built on this machine.', size)
          : trans.__('About %1 GB, unless it is here already.', size),
        trans.__(
          'A kernel with this image is added to the launcher, and this notebook takes it. Variables are lost.'
        )
      ].join('\n'),
      buttons: [
        Dialog.cancelButton(),
        Dialog.okButton({ label: trans.__('Use It') })
      ]
    });
    if (!answer.button.accept) {
      return false;
    }
    const name = await installPreset(kernel, preset.name);
    await app.serviceManager.kernelspecs.refreshSpecs();
    await context.changeKernel({ name });
    return true;
  };

  const freeGpu = async (
    context: ISessionContext,
    kernel: string
  ): Promise<boolean> => {
    await model?.refresh();
    const holders = (model?.report?.kernels ?? []).filter(
      other =>
        other.gpus.length > 0 && other.kernel_id !== context.session?.kernel?.id
    );
    if (!model || holders.length === 0) {
      await showErrorMessage(
        trans.__('No notebook of yours holds a GPU'),
        trans.__('Others do; the failure says who.')
      );
      return false;
    }
    const labels = holders.map(holder => holderLabel(holder, model, trans));
    const answer = await InputDialog.getItem({
      title: trans.__('Shut down which notebook’s kernel?'),
      label: trans.__(
        'Its variables are lost. The saved document stays as it is. One that is busy loses its work.'
      ),
      items: labels,
      okLabel: trans.__('Shut Down')
    });
    const chosen = holders[labels.indexOf(answer.value ?? '')];
    if (!answer.button.accept || !chosen) {
      return false;
    }
    await app.serviceManager.kernels.shutdown(chosen.kernel_id);
    await context.changeKernel({ name: kernel });
    return true;
  };

  return async (action, context, kernel) => {
    try {
      switch (action) {
        case 'retry':
          await context.changeKernel({ name: kernel });
          return true;
        case 'start-on-cpu':
          await context.changeKernel({ name: CPU_KERNEL });
          return true;
        case 'use-preset':
          return await usePreset(context, kernel);
        case 'free-gpu':
          return await freeGpu(context, kernel);
        case 'open-doctor':
          await app.commands.execute(Commands.doctor);
          return false;
      }
    } catch (error) {
      await showErrorMessage(
        trans.__('That did not work'),
        error instanceof Error ? error.message : String(error)
      );
      return false;
    }
  };
}

/** A kernel that holds a GPU, in one line: idle ones and busy ones are told apart. */
function holderLabel(
  kernel: IKernel,
  model: IGpuModel,
  trans: TranslationBundle
): string {
  const gpus = (model.report?.gpus ?? []).filter(gpu =>
    [gpu, ...gpu.mig].some(device => kernel.gpus.includes(device.uuid))
  );
  const held = gpus
    .flatMap(gpu => [gpu, ...gpu.mig])
    .flatMap(device => device.holders?.kernels ?? [])
    .filter(share => share.kernel_id === kernel.kernel_id)
    .reduce((sum, share) => sum + (share.used_bytes ?? 0), 0);
  return trans.__(
    '%1: GPU %2, %3, %4',
    kernelName(kernel, trans),
    gpus.map(gpu => gpu.index).join(', '),
    bytes(held),
    activity(kernel, trans)
  );
}
