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
import { lastWords, reportWidget, runJob, tellError } from './jobs';
import { Merge } from './merge';
import { installed, requirements } from './packages';
import type { IJob, Verb } from './records';
import { agree, needs } from './request';

const SHARE = 'tfgpu:share';
const VERIFY = 'tfgpu:verify';
const KEEP = 'tfgpu:keep';
const REMOVE = 'tfgpu:remove';
/** The name that a requirement begins with, such as seaborn>=0.13. */
const NAME = /^[A-Za-z0-9._-]+/;

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
    const verifying = trans.__('Verifying the notebook');
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
            agree: async subject => {
              const title = trans.__('The consent was not given.');
              const agreed = await attempt(title, () =>
                agree(panel.context.path, subject)
              );
              await refresh(panel); // another lock than the one shown is seen now
              if (agreed) {
                // where the start fails, a bar of its own says why
                await start(panel).catch(() => undefined);
              }
            },
            verify: () => void run(panel, 'verify', verifying)
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
      panel: NotebookPanel,
      verb: Verb,
      title: string,
      packages: string[] = []
    ): Promise<void> => {
      await attempt(title, async () => {
        if (panel.isDisposed) {
          throw new Error(trans.__('The notebook was closed meanwhile.'));
        }
        await panel.context.save();
        const merge = new Merge(panel, app.serviceManager.contents, trans);
        try {
          const { path } = panel.context;
          const done = await runJob(verb, path, packages, title, trans);
          await show(panel, merge, done);
        } finally {
          merge.dispose();
        }
      });
      await refresh(panel);
    };

    /** Show how a job ended, and bring what it changed into the notebook. */
    const show = async (
      panel: NotebookPanel,
      merge: Merge,
      done: IJob
    ): Promise<void> => {
      if (done.state === 'failed') {
        Notification.error(lastWords(done), { autoClose: false });
      }
      if (done.state !== 'done') {
        return;
      }
      if (done.verb === 'verify') {
        const widget = await reportWidget(done, trans);
        app.shell.add(widget, 'main', { mode: 'split-right' });
        return;
      }
      if (!panel.isDisposed) {
        await (done.verb === 'lock' ? merge.file() : merge.metadata());
      }
      Notification.success(summary(done.verb, done.lines, trans), {
        autoClose: done.verb !== 'lock' && 8000
      });
    };

    const keep = async (
      panel: NotebookPanel,
      packages: string[]
    ): Promise<void> => {
      if (packages.length) {
        const title = trans.__('Keeping %1', packages.join(', '));
        await run(panel, 'add', title, packages);
      }
    };

    const askAndKeep = async (panel: NotebookPanel): Promise<void> => {
      const title = trans.__('Keep packages in this notebook');
      const placeholder = 'seaborn pandas>=2';
      const { value } = await InputDialog.getText({ title, placeholder });
      const packages = requirements(value ?? '');
      if (packages) {
        await keep(panel, packages);
      } else {
        const reason = trans.__(
          'Name packages, such as %1; options, files and addresses can’t be kept.',
          placeholder
        );
        tellError(title, reason);
      }
    };

    const remove = async (panel: NotebookPanel): Promise<void> => {
      const title = trans.__('Remove packages from this notebook');
      await attempt(title, async () => {
        const items = (await needs(panel.context.path)).needs?.kept ?? [];
        if (!items.length) {
          Notification.info(trans.__('This notebook keeps no packages.'));
          return;
        }
        const { value } = await InputDialog.getMultipleItems({ title, items });
        const list = value?.map(text => NAME.exec(text)?.[0] ?? text) ?? [];
        if (list.length) {
          const removing = trans.__('Removing %1', list.join(', '));
          await run(panel, 'remove', removing, list);
        }
      });
    };

    /** What a command does with the notebook that is in front as it is called. */
    const here =
      (does: (panel: NotebookPanel) => Promise<void>) =>
      async (): Promise<void> => {
        const panel = tracker.currentWidget;
        if (panel) {
          await does(panel);
        }
      };
    const isEnabled = (): boolean => tracker.currentWidget !== null;
    app.commands.addCommand(SHARE, {
      label: trans.__('Share: Lock This Notebook'),
      caption: trans.__('Run it in a clean kernel, and lock what it needs'),
      isEnabled,
      execute: here(panel =>
        run(panel, 'lock', trans.__('Locking the notebook'))
      )
    });
    app.commands.addCommand(VERIFY, {
      label: trans.__('Verify This Notebook'),
      caption: trans.__('Run it as it was locked, and compare the results'),
      isEnabled,
      execute: here(panel => run(panel, 'verify', verifying))
    });
    app.commands.addCommand(KEEP, {
      label: trans.__('Keep Packages in This Notebook…'),
      isEnabled,
      execute: here(askAndKeep)
    });
    app.commands.addCommand(REMOVE, {
      label: trans.__('Remove Packages From This Notebook…'),
      isEnabled,
      execute: here(remove)
    });
    [SHARE, VERIFY, KEEP, REMOVE].forEach(command => {
      palette?.addItem({
        command,
        category: trans.__('TensorFlow containers')
      });
    });

    // what a cell installs is gone with the kernel, so it is offered to be kept
    NotebookActions.executed.connect((_, { notebook, cell, success }) => {
      const panel = tracker.find(one => one.content === notebook);
      const packages = installed(cell.model.sharedModel.getSource());
      const said = cell instanceof CodeCell ? cell.outputArea.model : null;
      const failed = /ERROR: /.test(JSON.stringify(said?.toJSON()));
      if (success && packages.length && panel && !failed) {
        Notification.info(
          trans.__('%1: installed for this kernel only.', packages.join(' ')),
          {
            autoClose: 20000,
            actions: [
              {
                label: trans.__('Keep in this notebook'),
                callback: () => void keep(panel, packages)
              }
            ]
          }
        );
      }
    });
  }
};

/** Do something; what keeps it from being done is told. Resolves to whether it was done. */
async function attempt(
  title: string,
  act: () => Promise<void>
): Promise<boolean> {
  try {
    await act();
    return true;
  } catch (error) {
    tellError(title, error);
    return false;
  }
}

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
