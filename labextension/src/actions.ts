import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Dialog, showDialog, showErrorMessage } from '@jupyterlab/apputils';
import type { INotebookTracker } from '@jupyterlab/notebook';
import { KernelAPI } from '@jupyterlab/services';
import type { TranslationBundle } from '@jupyterlab/translation';

import { kernelName } from './format';
import type { IGpuModel, IKernel } from './tokens';

/** What one can do with a kernel where it is listed. */
export type Verb = 'open' | 'interrupt' | 'restart' | 'shutdown';

/** Does a verb; resolves when it is done and the model has been asked anew. */
export type Act = (verb: Verb, kernel: IKernel) => Promise<void>;

/** Make the function that does verbs; restart and shutdown ask first, since variables are lost. */
export function actions(
  app: JupyterFrontEnd,
  gpuModel: IGpuModel,
  notebooks: INotebookTracker | null,
  trans: TranslationBundle
): Act {
  const settings = app.serviceManager.serverSettings;
  const restart = restarter(app, notebooks);

  const open = async (kernel: IKernel): Promise<void> => {
    const command =
      kernel.kind === 'console' ? 'console:open' : 'docmanager:open';
    await app.commands.execute(command, { path: kernel.path });
  };

  const agreed = async (title: string, button: string): Promise<boolean> => {
    const answer = await showDialog({
      title,
      body: trans.__(
        'Its variables are lost. The saved document stays as it is.'
      ),
      buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: button })]
    });
    return answer.button.accept;
  };

  return async (verb, kernel) => {
    const name = kernelName(kernel, trans);
    try {
      switch (verb) {
        case 'open':
          await open(kernel);
          return;
        case 'interrupt':
          await KernelAPI.interruptKernel(kernel.kernel_id, settings);
          break;
        case 'restart':
          if (
            await agreed(
              trans.__('Restart the kernel of %1?', name),
              trans.__('Restart')
            )
          ) {
            await restart(kernel);
          }
          break;
        case 'shutdown':
          if (
            await agreed(
              trans.__('Shut down the kernel of %1?', name),
              trans.__('Shut Down')
            )
          ) {
            await app.serviceManager.kernels.shutdown(kernel.kernel_id);
          }
      }
    } catch (error) {
      await showErrorMessage(
        trans.__('The kernel of %1 did not do that', name),
        error instanceof Error ? error.message : String(error)
      );
    }
    await gpuModel.refresh();
  };
}

/** Make the function that restarts a kernel, through its open notebook where there is one. */
export function restarter(
  app: JupyterFrontEnd,
  notebooks: INotebookTracker | null
): (kernel: IKernel) => Promise<void> {
  return async kernel => {
    const shown = notebooks?.find(
      panel => panel.sessionContext.session?.kernel?.id === kernel.kernel_id
    );
    // an open notebook's own restart knows what to clear and whom to tell
    await (shown
      ? shown.sessionContext.restartKernel()
      : KernelAPI.restartKernel(
          kernel.kernel_id,
          app.serviceManager.serverSettings
        ));
  };
}
