import { Dialog, showDialog } from '@jupyterlab/apputils';
import type { NotebookPanel } from '@jupyterlab/notebook';
import type { Contents } from '@jupyterlab/services';
import type { TranslationBundle } from '@jupyterlab/translation';

const KEY = 'tfgpu';

interface IContent {
  metadata: Record<string, unknown>;
  cells: readonly { cell_type: string; source: string | string[] }[];
}

/** What a job changes in a notebook's file, brought into the open notebook so that no edit is lost unasked. */
export class Merge {
  /** Begin with a notebook that was saved just now. */
  constructor(
    private readonly panel: NotebookPanel,
    private readonly contents: Contents.IManager,
    private readonly trans: TranslationBundle
  ) {
    this.saved = sources(this.content);
    panel.context.model.contentChanged.connect(this.edit);
    panel.context.saveState.connect(this.save);
  }

  /** Watch the notebook no more. */
  dispose(): void {
    this.panel.context.model.contentChanged.disconnect(this.edit);
    this.panel.context.saveState.disconnect(this.save);
  }

  /** Take over what the notebook needs, and nothing else. */
  async metadata(): Promise<void> {
    const { context } = this.panel;
    const file = await this.contents.get(context.path, {
      type: 'notebook',
      content: true
    });
    const content = file.content as IContent;
    const written = content.metadata[KEY];
    if (written === undefined) {
      context.model.deleteMetadata(KEY);
    } else {
      context.model.setMetadata(KEY, written);
    }
    if (sources(content) === this.saved) {
      // The file is newer than the page knows; its "new" name tells the page its date, and nobody is asked at the save.
      await this.contents.rename(context.path, context.path);
    }
    await context.save();
  }

  /** Load the whole file; where there are edits since, ask. */
  async file(): Promise<void> {
    const { trans } = this;
    if (this.edited) {
      const answer = await showDialog({
        title: trans.__('Load the locked notebook?'),
        body: trans.__(
          'The open notebook changed while it was locked. Its file holds what was locked: the notebook as it was before. If you keep your edits, the next save asks which of the two stays.'
        ),
        buttons: [
          Dialog.cancelButton({ label: trans.__('Keep My Edits') }),
          Dialog.warnButton({ label: trans.__('Load, and Lose My Edits') })
        ],
        defaultButton: 0
      });
      if (!answer.button.accept) {
        return;
      }
    }
    await this.panel.context.revert();
  }

  private readonly edit = (): void => {
    this.edited = true;
  };

  private readonly save = (_: unknown, state: string): void => {
    if (state === 'completed') {
      this.saved = sources(this.content);
    }
  };

  private get content(): IContent {
    return this.panel.context.model.toJSON() as unknown as IContent;
  }

  private edited = false;
  private saved: string;
}

/** What tells whether somebody else wrote a notebook's file. */
function sources(content: IContent): string {
  return JSON.stringify(
    content.cells.map(cell => [cell.cell_type, [cell.source].flat().join('')])
  );
}
