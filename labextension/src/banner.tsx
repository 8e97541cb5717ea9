import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import {
  ReactWidget,
  type ISessionContext,
  type MainAreaWidget
} from '@jupyterlab/apputils';
import { IConsoleTracker } from '@jupyterlab/console';
import { INotebookTracker } from '@jupyterlab/notebook';
import {
  ITranslator,
  nullTranslator,
  type TranslationBundle
} from '@jupyterlab/translation';
import * as React from 'react';

import { ILaunches, launchPath, type ITrouble } from './launches';
import { performer, possible, type Perform } from './perform';
import { Remedy } from './remedy';
import type { Action, ILaunch } from './records';
import { IGpuModel } from './tokens';
import { progressText } from './words';

const ASKED = 'consent-needed'; // the bar that asks for it stands right there
const MOST_PIXELS = 320;

/** What stands above a notebook while its kernel is launched, or after it failed or died. */
class Banner extends ReactWidget {
  constructor(
    private readonly _context: ISessionContext,
    private readonly _launches: ILaunches,
    private readonly _app: JupyterFrontEnd,
    private readonly _model: IGpuModel | null,
    private readonly _perform: Perform,
    private readonly _trans: TranslationBundle
  ) {
    super();
    this.addClass('tfgpu-Banner');
    _launches.changed.connect(this._changed);
    _context.kernelChanged.connect(this._changed);
    // Lumino lays out by minimal heights, and doesn't see what React renders
    this._observer = new ResizeObserver(() => this._measure());
    this._changed();
  }

  override dispose(): void {
    this._observer.disconnect();
    this._launches.changed.disconnect(this._changed);
    super.dispose();
  }

  protected override render(): React.ReactElement | null {
    const { path, kernelId } = this._key;
    const launch = this._launches.of(path, kernelId);
    const trouble = this._launches.trouble(path, kernelId);
    return (
      <div
        ref={body => {
          this._observer.disconnect();
          this._body = body;
          if (body) {
            this._observer.observe(body);
          }
        }}
      >
        {trouble && trouble.failure.code !== ASKED && (
          <Remedy
            failure={trouble.failure}
            actions={trouble.failure.actions.filter(action =>
              possible(action, this._context, this._app, this._model)
            )}
            perform={action => void this._deal(trouble, action)}
            dismiss={() => this._launches.dismiss(trouble)}
            trans={this._trans}
          />
        )}
        {launch && (
          <Progress
            launch={launch}
            cancel={() => void this._launches.cancel(launch)}
            trans={this._trans}
          />
        )}
      </div>
    );
  }

  /** Do what a button says; a start that it begins has words of its own, so the old ones go before. */
  private async _deal(trouble: ITrouble, action: Action): Promise<void> {
    if (action === 'retry' || action === 'start-on-cpu') {
      this._launches.dismiss(trouble);
    }
    if (await this._perform(action, this._context, trouble.kernelName)) {
      this._launches.dismiss(trouble);
    }
  }

  private _measure(): void {
    const height = `${Math.min(this._body?.offsetHeight ?? 0, MOST_PIXELS)}px`;
    if (this.node.style.minHeight !== height) {
      this.node.style.minHeight = this.node.style.maxHeight = height;
      this.parent?.fit();
    }
  }

  private get _key(): { path: string; kernelId: string | undefined } {
    return {
      path: launchPath(this._context),
      kernelId: this._context.session?.kernel?.id
    };
  }

  private readonly _changed = (): void => {
    const { path, kernelId } = this._key;
    const shown =
      this._launches.of(path, kernelId) ??
      this._launches.trouble(path, kernelId);
    this.setHidden(shown === undefined);
    this.update();
  };

  private readonly _observer: ResizeObserver;
  private _body: HTMLElement | null = null;
}

/** A launch under way: a bar, what happens, and Cancel. */
function Progress(props: {
  launch: ILaunch;
  cancel: () => void;
  trans: TranslationBundle;
}): React.ReactElement {
  const { launch, cancel, trans } = props;
  return (
    <div className="tfgpu-Progress" role="status">
      <progress
        aria-label={trans.__('Launch of the kernel')}
        {...(launch.fraction === null
          ? {}
          : { value: launch.fraction, max: 1 })}
      />
      <span className="tfgpu-Progress-text">{progressText(launch, trans)}</span>
      <button
        className="jp-mod-styled jp-mod-minimal jp-mod-reject"
        onClick={cancel}
      >
        {trans.__('Cancel')}
      </button>
    </div>
  );
}

/** Shows in each notebook and console how far its kernel's launch is, and why it failed or died. */
export const banner: JupyterFrontEndPlugin<void> = {
  id: '@tfgpu/labextension:banner',
  description:
    'Shows above a notebook how its kernel is launched, and what to do where that fails.',
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
    const add = (panel: MainAreaWidget, context: ISessionContext): void => {
      panel.contentHeader.addWidget(
        new Banner(context, launches, app, model, perform, trans)
      );
      // a restored or new panel asks for its kernel at once; don't wait for the next hint
      void launches.refresh();
    };
    notebooks?.widgetAdded.connect((_, panel) =>
      add(panel, panel.sessionContext)
    );
    consoles?.widgetAdded.connect((_, panel) =>
      add(panel, panel.sessionContext)
    );
  }
};
