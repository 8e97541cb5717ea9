import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { Notification } from '@jupyterlab/apputils';
import { INotebookTracker } from '@jupyterlab/notebook';
import {
  ITranslator,
  nullTranslator,
  type TranslationBundle
} from '@jupyterlab/translation';

import { actions } from './actions';
import {
  bytes,
  bytesOf,
  kernelName,
  pressures,
  usableBytes,
  type IPressure
} from './format';
import { Commands, IGpuModel } from './tokens';

/** A warning goes when the memory is so many percent below the threshold, not at the next byte. */
const SLACK_PERCENT = 5;

/** The warning in words. */
export function words(pressure: IPressure, trans: TranslationBundle): string {
  const { gpu, memory, idlest } = pressure;
  const full = trans.__(
    'The memory of GPU %1 is nearly full: %2.',
    gpu.index,
    bytesOf(memory.used_bytes, usableBytes(memory), trans)
  );
  if (!idlest) {
    return full;
  }
  const minutes = Math.floor((idlest.kernel.idle_seconds ?? 0) / 60);
  return `${full} ${trans.__(
    '%1 has done nothing for %2 min and holds %3.',
    kernelName(idlest.kernel, trans),
    minutes,
    bytes(idlest.used_bytes)
  )}`;
}

/** Warns once when a GPU's memory gets nearly full, and offers what frees most. */
export const warnings: JupyterFrontEndPlugin<void> = {
  id: '@tfgpu/labextension:warnings',
  description: 'Warns when the memory of a GPU is nearly full.',
  autoStart: true,
  requires: [IGpuModel],
  optional: [INotebookTracker, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    model: IGpuModel,
    notebooks: INotebookTracker | null,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load('tfgpu_kernel');
    const act = actions(app, model, notebooks, trans);
    /** The notification of each GPU that was warned of, by UUID. */
    const warned = new Map<string, { id: string; kernelId: string }>();

    const warn = (pressure: IPressure): void => {
      const idle = pressure.idlest?.kernel ?? null;
      const before = warned.get(pressure.gpu.uuid);
      const kernelId = idle?.kernel_id ?? '';
      // said once; said anew only when there is somebody else to name
      if (before && (before.kernelId === kernelId || !idle)) {
        return;
      }
      if (before) {
        Notification.dismiss(before.id);
      }
      const showPanel = {
        label: trans.__('Show GPUs'),
        callback: () => void app.commands.execute(Commands.openPanel)
      };
      const id = Notification.warning(words(pressure, trans), {
        autoClose: false,
        actions: idle
          ? [
              {
                label: trans.__('Shut Down %1', kernelName(idle, trans)),
                displayType: 'warn',
                callback: () => void act('shutdown', idle)
              },
              showPanel
            ]
          : [showPanel]
      });
      warned.set(pressure.gpu.uuid, { id, kernelId });
    };

    model.changed.connect(() => {
      const report = model.report;
      if (!report) {
        return;
      }
      const { thresholds } = model;
      pressures(report, thresholds, thresholds.percent).forEach(warn);
      const still = new Set(
        pressures(report, thresholds, thresholds.percent - SLACK_PERCENT).map(
          ({ gpu }) => gpu.uuid
        )
      );
      for (const [uuid, { id }] of warned) {
        if (!still.has(uuid)) {
          Notification.dismiss(id);
          warned.delete(uuid);
        }
      }
    });
  }
};
