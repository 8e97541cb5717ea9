import {
  ILayoutRestorer,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { INotebookTracker } from '@jupyterlab/notebook';
import {
  ITranslator,
  nullTranslator,
  type TranslationBundle
} from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import * as React from 'react';

import { actions, type Act } from './actions';
import { GpuCard } from './device';
import { bytes, rowsOnNone, sorted, SORTS, type Sort } from './format';
import { gpuIcon } from './icon';
import { Row, type IContext } from './row';
import { Commands, IGpuModel, type IGpuReport } from './tokens';

/** GPUs, the notebooks on them, and what can be done about them. */
class GpuPanel extends ReactWidget {
  constructor(
    private _model: IGpuModel,
    private _act: Act,
    private _trans: TranslationBundle,
    private _doctor: (() => void) | null
  ) {
    super();
    this.id = 'tfgpu-panel';
    this.addClass('tfgpu-Panel');
    this.title.icon = gpuIcon;
    this.title.caption = _trans.__('GPUs, and the notebooks on them');
    // what has the focus may vanish, as a row does when its kernel is shut down; the panel then takes it
    this.node.tabIndex = -1;
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', _trans.__('GPUs'));
    _model.changed.connect(this._show);
  }

  override dispose(): void {
    this._model.changed.disconnect(this._show);
    super.dispose();
  }

  protected override onActivateRequest(): void {
    this.node.focus();
  }

  protected override onAfterShow(): void {
    this.update();
    void this._model.refresh();
  }

  protected override render(): React.ReactElement {
    const report = this._model.report;
    const trans = this._trans;
    if (!report) {
      return <p className="tfgpu-Note">{trans.__('Asking the server…')}</p>;
    }
    const context: IContext = {
      trans,
      act: this._actHere,
      sort: this._sort,
      kernels: report.kernels,
      warnPercent: this._model.thresholds.percent
    };
    const others = sorted(rowsOnNone(report), this._sort);
    return (
      <>
        <div className="tfgpu-Head">
          <h2>{trans.__('GPUs')}</h2>
          <label>
            {trans.__('Sort by')}
            <select
              value={this._sort}
              onChange={event => {
                this._sort = event.target.value as Sort;
                this.update();
              }}
            >
              {SORTS.map(sort => (
                <option key={sort} value={sort}>
                  {sortName(sort, trans)}
                </option>
              ))}
            </select>
          </label>
        </div>
        {this._notes(report)}
        <div className="tfgpu-Gpus">
          {report.gpus.map(gpu => (
            <GpuCard
              key={gpu.uuid}
              gpu={gpu}
              history={this._model.history}
              now={report.time}
              {...context}
            />
          ))}
        </div>
        {others.length > 0 && (
          <section
            className="tfgpu-Others"
            aria-label={trans.__('Kernels without a GPU')}
          >
            <h3>{trans.__('Kernels without a GPU')}</h3>
            <ul className="tfgpu-Rows">
              {others.map(row => (
                <Row key={row.kernel.kernel_id} row={row} {...context} />
              ))}
            </ul>
          </section>
        )}
        <div className="tfgpu-Foot">{foot(report, trans)}</div>
      </>
    );
  }

  /** What is wrong, and what to do. */
  private _notes(report: IGpuReport): React.ReactElement {
    const trans = this._trans;
    const doctor = this._doctor;
    return (
      <>
        {report.no_gpu && (
          <div className="tfgpu-Note" data-kind="no-gpu">
            <p>{report.no_gpu.message}</p>
            {doctor ? (
              <button
                type="button"
                className="jp-mod-styled jp-mod-accept"
                onClick={doctor}
              >
                {trans.__('Find Out What Is Missing')}
              </button>
            ) : (
              <p>{trans.__('What to do: %1', report.no_gpu.remedy)}</p>
            )}
          </div>
        )}
        {report.lost.map(gpu => (
          <div
            key={gpu.index}
            className="tfgpu-Note"
            data-kind="lost"
            role="alert"
          >
            <p>{trans.__('GPU %1 can’t be used: %2.', gpu.index, gpu.cause)}</p>
          </div>
        ))}
        {!report.sees_processes && (
          <p className="tfgpu-Note">
            {trans.__(
              'Whose memory it is can’t be told: this server does not see the processes of the Docker engine.'
            )}
          </p>
        )}
      </>
    );
  }

  private _actHere: Act = async (verb, kernel) => {
    await this._act(verb, kernel);
    const id = kernel.kernel_id;
    const focused = document.activeElement;
    if (
      !this._model.report?.kernels.some(other => other.kernel_id === id) &&
      (focused === document.body ||
        focused?.closest(`[data-kernel="${id}"]`) !== null)
    ) {
      // its row vanishes with the next drawing, if it hasn't yet
      this.node.focus();
    }
  };

  private _show = (): void => {
    if (this.isVisible) {
      this.update();
    }
  };

  private _sort: Sort = 'memory';
}

function sortName(sort: Sort, trans: TranslationBundle): string {
  return {
    memory: trans.__('memory'),
    idle: trans.__('idle time'),
    name: trans.__('name')
  }[sort];
}

/** The versions, and the pool, in small. */
function foot(report: IGpuReport, trans: TranslationBundle): string {
  const { count, memory_bytes } = report.warm;
  return [
    count > 0 &&
      `${trans._n('%1 warm kernel', '%1 warm kernels', count)}, ${bytes(memory_bytes)} RAM`,
    report.driver !== null && trans.__('Driver %1', report.driver),
    report.cuda !== null && trans.__('CUDA up to %1', report.cuda)
  ]
    .filter(Boolean)
    .join(' · ');
}

/** The panel at the side, and the command that shows it. */
export const panel: JupyterFrontEndPlugin<void> = {
  id: '@tfgpu/labextension:panel',
  description: 'Shows GPUs by notebook in a panel.',
  autoStart: true,
  requires: [IGpuModel],
  optional: [INotebookTracker, ICommandPalette, ILayoutRestorer, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    model: IGpuModel,
    notebooks: INotebookTracker | null,
    palette: ICommandPalette | null,
    restorer: ILayoutRestorer | null,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load('tfgpu_kernel');
    const doctor = (): void => {
      if (app.commands.hasCommand(Commands.doctor)) {
        void app.commands.execute(Commands.doctor);
      }
    };
    const widget = new GpuPanel(
      model,
      actions(app, model, notebooks, trans),
      trans,
      doctor
    );
    app.shell.add(widget, 'right', { rank: 600 });
    restorer?.add(widget, widget.id);
    app.commands.addCommand(Commands.openPanel, {
      label: trans.__('Show GPUs by Notebook'),
      caption: widget.title.caption,
      icon: gpuIcon,
      execute: () => {
        app.shell.activateById(widget.id);
        // the palette, when it was that, closes only now, and asks for the focus to go back
        window.setTimeout(() => widget.activate(), 0);
      }
    });
    palette?.addItem({
      command: Commands.openPanel,
      category: trans.__('GPU')
    });
  }
};
