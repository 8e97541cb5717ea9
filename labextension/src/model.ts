import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ServerConnection } from '@jupyterlab/services';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import type { IDisposable } from '@lumino/disposable';
import { Poll } from '@lumino/polling';
import { Signal, type ISignal } from '@lumino/signaling';

import { joined } from './history';
import { anew } from './poll';
import { gpus } from './request';
import {
  IGpuModel,
  type IGpuReport,
  type IHistory,
  type IThresholds
} from './tokens';

const ID = '@tfgpu/labextension:model';
const EVENT = 'urn:tfgpu-kernel:gpus:v1';
const INTERVAL_MS = 2000;

class GpuModel implements IGpuModel, IDisposable {
  constructor() {
    this._poll = new Poll({
      name: ID,
      frequency: { interval: INTERVAL_MS, backoff: true, max: 30000 },
      // a page that nobody sees asks nothing
      standby: 'when-hidden',
      linger: 0,
      factory: () => this._ask()
    });
  }

  get report(): IGpuReport | null {
    return this._report;
  }

  get history(): IHistory {
    return this._history;
  }

  get thresholds(): IThresholds {
    return this._thresholds;
  }

  set thresholds(thresholds: IThresholds) {
    this._thresholds = thresholds;
    this._changed.emit();
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get isDisposed(): boolean {
    return this._poll.isDisposed;
  }

  async refresh(): Promise<void> {
    await anew(this._poll);
  }

  dispose(): void {
    this._poll.dispose();
    Signal.clearData(this);
  }

  private async _ask(): Promise<void> {
    const times = this._history.times;
    let report: IGpuReport;
    try {
      report = await gpus(times[times.length - 1] ?? 0);
    } catch (error) {
      if (
        error instanceof ServerConnection.ResponseError &&
        error.response.status === 404
      ) {
        // a server without our extension: it will not learn it while the page is open
        void this._poll.stop();
      }
      throw error;
    }
    this._history = joined(this._history, report.history);
    this._report = report;
    this._changed.emit();
  }

  private _poll: Poll;
  private _report: IGpuReport | null = null;
  private _history: IHistory = { times: [], gpus: {} };
  private _thresholds: IThresholds = { percent: 90, idleMinutes: 5 };
  private _changed = new Signal<this, void>(this);
}

/** Holds what is known of the GPUs, for all views. */
export const model: JupyterFrontEndPlugin<IGpuModel> = {
  id: ID,
  description:
    'Asks the server for GPUs, and which notebook holds how much of them.',
  autoStart: true,
  provides: IGpuModel,
  optional: [ISettingRegistry],
  activate: (
    app: JupyterFrontEnd,
    registry: ISettingRegistry | null
  ): IGpuModel => {
    const made = new GpuModel();
    app.serviceManager.events.stream.connect((_, event) => {
      if (event.schema_id === EVENT) {
        void made.refresh();
      }
    });
    void registry?.load(ID).then(settings => {
      const read = (): void => {
        made.thresholds = {
          percent: settings.get('warnPercent').composite as number,
          idleMinutes: settings.get('idleMinutes').composite as number
        };
      };
      settings.changed.connect(read);
      read();
    });
    return made;
  }
};
