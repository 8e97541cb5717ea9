import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { IStatusBar } from '@jupyterlab/statusbar';
import {
  ITranslator,
  nullTranslator,
  type TranslationBundle
} from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import * as React from 'react';

import { Chart, meanOf } from './chart';
import { bytesOf, gpuLine, overall, percent } from './format';
import { gpuIcon } from './icon';
import { Commands, IGpuModel } from './tokens';

/** GPU use and memory at a glance; without a GPU, that there is none, and why. */
class Status extends ReactWidget {
  constructor(
    private _model: IGpuModel,
    private _trans: TranslationBundle,
    private _run: (command: string) => void
  ) {
    super();
    this.addClass('jp-mod-highlighted');
    this.addClass('tfgpu-Status');
    _model.changed.connect(this._show);
  }

  override dispose(): void {
    this._model.changed.disconnect(this._show);
    super.dispose();
  }

  protected override render(): React.ReactElement | null {
    const report = this._model.report;
    const trans = this._trans;
    if (!report) {
      return null;
    }
    if (report.no_gpu && report.gpus.length === 0) {
      const why = report.no_gpu.message;
      return (
        <button
          type="button"
          className="tfgpu-Status-button"
          title={`${why}\n${trans.__('Click to find out what is missing.')}`}
          aria-label={trans.__('No GPU. %1', why)}
          onClick={() => this._run(Commands.doctor)}
        >
          <gpuIcon.react tag="span" className="tfgpu-Status-icon" />
          <span>{trans.__('No GPU')}</span>
        </button>
      );
    }
    const { use, used_bytes, usable_bytes } = overall(report);
    const lines = [
      ...report.gpus.map(gpu => gpuLine(gpu, trans)),
      ...report.lost.map(gpu => trans.__('GPU %1: %2', gpu.index, gpu.cause))
    ];
    const memory =
      used_bytes !== null && usable_bytes !== null
        ? bytesOf(used_bytes, usable_bytes, trans)
        : '';
    const history = this._model.history;
    return (
      <button
        type="button"
        className="tfgpu-Status-button"
        data-lost={report.lost.length > 0}
        title={lines.join('\n')}
        aria-label={[trans.__('Open the GPU panel.'), ...lines].join(' ')}
        onClick={() => this._run(Commands.openPanel)}
      >
        <gpuIcon.react tag="span" className="tfgpu-Status-icon" />
        <Chart
          times={history.times}
          use={meanOf(
            Object.values(history.gpus).map(series => series.use_percent)
          )}
          now={report.time}
          width={60}
          height={16}
        />
        <span>{[percent(use), memory].filter(Boolean).join(' · ')}</span>
      </button>
    );
  }

  private _show = (): void => {
    this.update();
  };
}

/** The item in the status bar. */
export const status: JupyterFrontEndPlugin<void> = {
  id: '@tfgpu/labextension:status',
  description: 'Shows GPU use and memory in the status bar.',
  autoStart: true,
  requires: [IGpuModel],
  optional: [IStatusBar, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    model: IGpuModel,
    bar: IStatusBar | null,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load('tfgpu_kernel');
    const run = (wanted: string): void => {
      const known = [wanted, Commands.openPanel].find(command =>
        app.commands.hasCommand(command)
      );
      if (known) {
        void app.commands.execute(known);
      }
    };
    bar?.registerStatusItem(status.id, {
      item: new Status(model, trans, run),
      align: 'left',
      rank: 100,
      isActive: () => model.report !== null,
      activeStateChanged: model.changed
    });
  }
};
