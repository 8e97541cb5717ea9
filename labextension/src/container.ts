import type { JupyterFrontEndPlugin } from '@jupyterlab/application';
import {
  ICommandPalette,
  IFrame,
  InputDialog,
  MainAreaWidget,
  Notification
} from '@jupyterlab/apputils';
import { INotebookTracker } from '@jupyterlab/notebook';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { openTerminal, portUrl } from './request';

const TERMINAL = 'tfgpu:terminal';
const PORT = 'tfgpu:port';

/** Opens what is inside a notebook's container: a terminal, or the page of a program. Its menu is in schema/container.json. */
export const container: JupyterFrontEndPlugin<void> = {
  id: '@tfgpu/labextension:container',
  description:
    "Opens a terminal in a kernel's container, and pages of the programs in it.",
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ICommandPalette, ITranslator],
  activate: (
    app,
    notebooks: INotebookTracker,
    palette: ICommandPalette | null,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load('tfgpu_kernel');
    const kernelId = (): string | undefined =>
      notebooks.currentWidget?.sessionContext.session?.kernel?.id;
    const failed = (): void => {
      Notification.error(
        trans.__(
          'The kernel of this notebook runs in no container, or has ended.'
        )
      );
    };

    app.commands.addCommand(TERMINAL, {
      label: trans.__("Open Terminal in Kernel's Container"),
      isEnabled: () => kernelId() !== undefined,
      execute: async () => {
        try {
          const name = await openTerminal(kernelId() ?? '');
          await app.commands.execute('terminal:open', { name });
        } catch {
          failed();
        }
      }
    });
    app.commands.addCommand(PORT, {
      label: trans.__("Open Port of Kernel's Container…"),
      isEnabled: () => kernelId() !== undefined,
      execute: async () => {
        const id = kernelId();
        const { value } = await InputDialog.getNumber({
          title: trans.__("Open Port of Kernel's Container"),
          label: trans.__('Port that a program in the notebook listens on'),
          value: 6006
        });
        if (id === undefined || value === null) {
          return;
        }
        const content = new IFrame({
          sandbox: [
            'allow-scripts',
            'allow-same-origin',
            'allow-forms',
            'allow-popups',
            'allow-downloads'
          ]
        });
        content.url = portUrl(id, value);
        content.title.label = trans.__('Port %1', value);
        const widget = new MainAreaWidget({ content });
        app.shell.add(widget, 'main', { mode: 'split-right' });
      }
    });
    for (const command of [TERMINAL, PORT]) {
      palette?.addItem({ command, category: trans.__('Kernel') });
    }
  }
};
