import type { JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Notification } from '@jupyterlab/apputils';
import { IStatusBar } from '@jupyterlab/statusbar';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import { Poll } from '@lumino/polling';
import { Signal } from '@lumino/signaling';
import * as React from 'react';

import { anew } from './poll';
import type { IEngine } from './records';
import { engine as ask } from './request';
import { Commands } from './tokens';

const EVENT = 'urn:tfgpu-kernel:engine:v1';
const THANKS_MS = 8000;

/** Says while the Docker engine doesn't answer that it doesn't, and when it does again. */
export const engine: JupyterFrontEndPlugin<void> = {
  id: '@tfgpu/labextension:engine',
  description:
    'Tells when the Docker engine stops answering, and when it is back.',
  autoStart: true,
  optional: [IStatusBar, ITranslator],
  activate: (app, bar: IStatusBar | null, translator: ITranslator | null) => {
    const trans = (translator ?? nullTranslator).load('tfgpu_kernel');
    const changed = new Signal<object, void>({});
    let state: IEngine | null = null;
    let notice = '';

    const silent = (): boolean => state?.answering === false;
    const openDoctor = (): void =>
      void app.commands.execute(Commands.doctor).catch(() => undefined);

    const note = (now: IEngine): void => {
      const before = state;
      state = now;
      if (before?.answering === now.answering) {
        return;
      }
      changed.emit();
      if (!now.answering) {
        notice = Notification.error(now.text, {
          autoClose: false,
          actions: [{ label: trans.__('Open Doctor'), callback: openDoctor }]
        });
      } else if (before) {
        Notification.dismiss(notice);
        Notification.success(trans.__('The Docker engine answers again.'), {
          autoClose: THANKS_MS
        });
      }
    };

    // events are hints and can be lost, so a slow poll stands behind them
    const poll = new Poll({
      name: '@tfgpu/labextension:engine',
      frequency: { interval: 30000, backoff: true, max: 120000 },
      standby: 'when-hidden',
      factory: async () => note(await ask())
    });
    app.serviceManager.events.stream.connect((_, event) => {
      if (event.schema_id === EVENT) {
        void anew(poll);
      }
    });

    const item = ReactWidget.create(
      <button
        type="button"
        className="tfgpu-Engine-button"
        title={trans.__('Kernels go on. Click to find out what is wrong.')}
        onClick={openDoctor}
      >
        {trans.__('Docker doesn’t answer')}
      </button>
    );
    item.addClass('jp-mod-highlighted');
    item.addClass('tfgpu-Status');
    bar?.registerStatusItem(engine.id, {
      item,
      align: 'left',
      rank: 99,
      isActive: silent,
      activeStateChanged: changed
    });
  }
};
