import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import {
  ICommandPalette,
  InputDialog,
  Notification
} from '@jupyterlab/apputils';
import { CodeCell } from '@jupyterlab/cells';
import {
  INotebookTracker,
  NotebookActions,
  type NotebookPanel
} from '@jupyterlab/notebook';
import {
  ITranslator,
  nullTranslator,
  type TranslationBundle
} from '@jupyterlab/translation';

import { ConsentBanner } from './consent';
import { lastWords, reportWidget, runJob } from './jobs';
import type { Verb } from './records';
import { agree, needs } from './request';

const SHARE = 'tfgpu:share';
const VERIFY = 'tfgpu:verify';
const KEEP = 'tfgpu:keep';
const REMOVE = 'tfgpu:remove';
/** The name that a requirement begins with, such as seaborn>=0.13. */
const NAME = /^[A-Za-z0-9._-]+/;
const INSTALL = /^\s*[%!]\s*pip3?\s+install\s+(.+)$/m;

/** Locks, verifies and receives notebooks, and keeps packages in them. */
export const sharing: JupyterFrontEndPlugin<void> = {
  id: '@tfgpu/labextension:sharing',
  description: 'Locks a notebook to its environment, and verifies it.',
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ITranslator, ICommandPalette],
  activate: (
    app: JupyterFrontEnd,
    tracker: INotebookTracker,
    translator: ITranslator | null,
    palette: ICommandPalette | null
  ) => {
    const trans = (translator ?? nullTranslator).load('tfgpu_kernel');
    const banners = new Map<NotebookPanel, ConsentBanner>();

    const refresh = async (panel: NotebookPanel): Promise<void> => {
      const { path } = panel.context;
      const found = await needs(path).catch(() => null);
      if (!found || panel.isDisposed) {
        return;
      }
      const known = banners.get(panel);
      if (known) {
        known.tell(found.needs, found.failure);
      } else if (found.needs || found.failure) {
        const banner = new ConsentBanner(
          found.needs,
          found.failure,
          {
            agree: async () => {
              const now = await needs(path);
              if (now.needs) {
                await agree(path, now.needs.subject);
              }
              await refresh(panel);
              await start(panel);
            },
            verify: () => void app.commands.execute(VERIFY)
          },
          trans
        );
        banners.set(panel, banner);
        panel.contentHeader.addWidget(banner);
        panel.disposed.connect(() => banners.delete(panel));
      }
    };

    tracker.widgetAdded.connect((_, panel) => {
      void panel.context.ready.then(() => refresh(panel));
    });

    const run = async (
      verb: Verb,
      title: string,
      packages: string[] = []
    ): Promise<void> => {
      const panel = tracker.currentWidget;
      if (!panel) {
        return;
      }
      await panel.context.save();
      const { path } = panel.context;
      const done = await runJob(verb, path, packages, title, trans);
      if (done.state === 'cancelled') {
        return;
      }
      if (done.state === 'failed') {
        Notification.error(lastWords(done), { autoClose: false });
      } else if (verb === 'verify') {
        const widget = await reportWidget(done, trans);
        app.shell.add(widget, 'main', { mode: 'split-right' });
      } else {
        await panel.context.revert();
        Notification.success(summary(verb, done.lines, trans), {
          autoClose: verb !== 'lock' && 8000
        });
      }
      await refresh(panel);
    };

    const keep = async (packages?: string): Promise<void> => {
      const words =
        packages ??
        (
          await InputDialog.getText({
            title: trans.__('Keep packages in this notebook'),
            placeholder: 'seaborn pandas>=2'
          })
        ).value;
      const list = words?.split(/\s+/).filter(word => word && word[0] !== '-');
      if (list?.length) {
        await run('add', trans.__('Keeping %1', list.join(', ')), list);
      }
    };

    const remove = async (): Promise<void> => {
      const path = tracker.currentWidget?.context.path;
      const kept = path ? ((await needs(path)).needs?.kept ?? []) : [];
      if (!kept.length) {
        Notification.info(trans.__('This notebook keeps no packages.'));
        return;
      }
      const { value } = await InputDialog.getMultipleItems({
        title: trans.__('Remove packages from this notebook'),
        items: kept
      });
      const list = value?.map(text => NAME.exec(text)?.[0] ?? text);
      if (list?.length) {
        await run('remove', trans.__('Removing %1', list.join(', ')), list);
      }
    };

    const isEnabled = (): boolean => tracker.currentWidget !== null;
    app.commands.addCommand(SHARE, {
      label: trans.__('Share: Lock This Notebook'),
      caption: trans.__('Run it in a clean kernel, and lock what it needs'),
      isEnabled,
      execute: () => run('lock', trans.__('Locking the notebook'))
    });
    app.commands.addCommand(VERIFY, {
      label: trans.__('Verify This Notebook'),
      caption: trans.__('Run it as it was locked, and compare the results'),
      isEnabled,
      execute: () => run('verify', trans.__('Verifying the notebook'))
    });
    app.commands.addCommand(KEEP, {
      label: trans.__('Keep Packages in This Notebook…'),
      isEnabled,
      execute: args => keep(args.packages as string | undefined)
    });
    app.commands.addCommand(REMOVE, {
      label: trans.__('Remove Packages From This Notebook…'),
      isEnabled,
      execute: () => remove()
    });
    [SHARE, VERIFY, KEEP, REMOVE].forEach(command => {
      palette?.addItem({
        command,
        category: trans.__('TensorFlow containers')
      });
    });

    // what a cell installs is gone with the kernel, so it is offered to be kept
    NotebookActions.executed.connect((_, { notebook, cell, success }) => {
      const packages = INSTALL.exec(cell.model.sharedModel.getSource())?.[1];
      const here = tracker.currentWidget?.content === notebook;
      const said = cell instanceof CodeCell ? cell.outputArea.model : null;
      const failed = /ERROR: /.test(JSON.stringify(said?.toJSON()));
      if (success && packages && here && !failed) {
        Notification.info(
          trans.__('%1: installed for this kernel only.', packages),
          {
            autoClose: 20000,
            actions: [
              {
                label: trans.__('Keep in this notebook'),
                callback: () => void keep(packages)
              }
            ]
          }
        );
      }
    });
  }
};

/** Start the kernel that the notebook names, after a consent. */
async function start(panel: NotebookPanel): Promise<void> {
  const { sessionContext } = panel;
  const name =
    sessionContext.kernelPreference.name ??
    panel.model?.defaultKernelName ??
    'tfgpu';
  await sessionContext.changeKernel({ name });
}

function summary(
  verb: Verb,
  lines: string[],
  trans: TranslationBundle
): string {
  if (verb === 'lock') {
    const notes = lines.filter(line => line.startsWith('Note: '));
    return [trans.__('Locked.'), ...notes].join('\n');
  }
  return [
    ...lines
      .map(line => /[^/]* keeps: .*/.exec(line)?.[0])
      .filter(line => line !== undefined),
    trans.__('The next start of the kernel has it so.')
  ].join('\n');
}
