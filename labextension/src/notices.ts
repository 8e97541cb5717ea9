import type { JupyterFrontEndPlugin } from '@jupyterlab/application';
import {
  Clipboard,
  Dialog,
  Notification,
  type ISessionContext
} from '@jupyterlab/apputils';
import { IConsoleTracker, type ConsolePanel } from '@jupyterlab/console';
import { PathExt } from '@jupyterlab/coreutils';
import { INotebookTracker, type NotebookPanel } from '@jupyterlab/notebook';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { ILaunches, launchPath, type ITrouble } from './launches';
import { performer } from './perform';
import { readAll } from './tell';
import { Commands, IGpuModel } from './tokens';
import { failureText } from './words';

/** In milliseconds. */
const ASKS_WITHIN = 3000;
const READ_WITHIN = 20000;

/** Tells of trouble where no notebook shows it, and keeps Lab from telling the same in fewer words. */
export const notices: JupyterFrontEndPlugin<void> = {
  id: '@tfgpu/labextension:notices',
  description:
    'Notifies of kernels that fail out of sight, and of what is to be read of a launch.',
  autoStart: true,
  requires: [ILaunches],
  optional: [INotebookTracker, IConsoleTracker, IGpuModel, ITranslator],
  activate: (
    app,
    launches: ILaunches,
    notebooks: INotebookTracker | null,
    consoles: IConsoleTracker | null,
    model: IGpuModel | null,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load('tfgpu_kernel');
    const perform = performer(app, model, trans);
    const labs = (translator ?? nullTranslator).load('jupyterlab');

    const find = (
      which: (context: ISessionContext) => boolean
    ): NotebookPanel | ConsolePanel | undefined =>
      notebooks?.find(panel => which(panel.sessionContext)) ??
      consoles?.find(panel => which(panel.sessionContext));
    const shown = (which: (path: string) => boolean, text: string): boolean =>
      find(
        context => text.includes(context.name) && which(launchPath(context))
      ) !== undefined;
    const told = (dialog: Dialog<unknown>): boolean => {
      const body =
        dialog.node.querySelector('.jp-Dialog-body')?.textContent ?? '';
      return [...launches.told].some(message => body.startsWith(message));
    };
    const repeated = (dialog: Dialog<unknown>): boolean => {
      const title =
        dialog.node.querySelector('.jp-Dialog-header')?.textContent ?? '';
      const body =
        dialog.node.querySelector('.jp-Dialog-body')?.textContent ?? '';
      if (title.includes(labs.__('Kernel Restarting'))) {
        return shown(path => launches.died(path), body);
      }
      // Lab asks for another kernel right after one failed, and covers what we say about it
      if (title.includes(labs.__('Select Kernel'))) {
        return shown(path => launches.sinceFailure(path) < ASKS_WITHIN, body);
      }
      return told(dialog);
    };
    Dialog.tracker.widgetAdded.connect((_, dialog) => {
      // React renders the text some time after the dialog was made, and the hint may come later than the dialog
      void launches.refresh();
      let began = Date.now();
      const watch = window.setInterval(() => {
        if (!dialog.isAttached) {
          // it waits behind another dialog
          began = Date.now();
        }
        if (dialog.isDisposed) {
          window.clearInterval(watch);
        } else if (Date.now() - began > ASKS_WITHIN) {
          window.clearInterval(watch);
          // a slow server may say it yet
          launches.changed.connect(() => {
            if (!dialog.isDisposed && told(dialog)) {
              dialog.reject();
            }
          }, dialog);
        } else if (repeated(dialog)) {
          window.clearInterval(watch);
          dialog.reject();
        }
      }, 50);
    });

    launches.noted.connect((_, { text, launch }) => {
      const panel = find(context => launchPath(context) === launch.path);
      // advice to take another image waits until somebody has read it
      if (panel && launch.preset && text.includes(launch.preset)) {
        Notification.warning(text, {
          autoClose: false,
          actions: [
            ...readAll(text, trans),
            {
              label: trans.__('Use Another Image…'),
              callback: () =>
                void perform(
                  'use-preset',
                  panel.sessionContext,
                  launch.kernel_name
                )
            }
          ]
        });
      } else {
        Notification.info(text, {
          autoClose: READ_WITHIN,
          actions: readAll(text, trans)
        });
      }
    });
    const tell = (trouble: ITrouble): void => {
      const panel = find(context => launchPath(context) === trouble.path);
      if (panel?.isVisible) {
        return;
      }
      const show = (): void =>
        panel
          ? app.shell.activateById(panel.id)
          : void app.commands.execute('docmanager:open', {
              path: trouble.path
            });
      const failure = trouble.failure;
      const text = failureText({ ...failure, details: '' }, trans);
      Notification.error(text, {
        autoClose: false,
        actions: [
          // a console that is closed is no document to be opened
          ...(panel || PathExt.extname(trouble.path)
            ? [
                {
                  // what to do stands above the notebook or console, with its buttons and the details
                  label: trans.__('Show'),
                  callback: show
                }
              ]
            : []),
          ...(failure.actions.includes('open-doctor')
            ? [
                {
                  label: trans.__('Open Doctor'),
                  callback: () => void app.commands.execute(Commands.doctor)
                }
              ]
            : []),
          {
            label: trans.__('Copy'),
            callback: () => Clipboard.copyToSystem(failureText(failure, trans))
          }
        ]
      });
    };
    // the first answer may have come before this plugin had all that it needs
    launches.troubles.forEach(tell);
    launches.troubled.connect((_, trouble) => tell(trouble));
  }
};
