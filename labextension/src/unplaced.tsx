import { Dialog, Notification, showDialog } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import * as React from 'react';

import type { IKept } from './records';

/** Tell of output that has no cell on this page, and show it to who asks. */
export function tellUnplaced(
  requests: readonly IKept[],
  trans: TranslationBundle
): void {
  const text = requests.map(outputText).filter(Boolean).join('\n');
  if (!text) {
    return; // nothing is printed yet
  }
  Notification.warning(
    trans.__('Output was kept, but its cell is not in this notebook as saved.'),
    {
      autoClose: false,
      actions: [
        {
          label: trans.__('Show Output'),
          callback: event => {
            event.preventDefault(); // the notification stays
            void showDialog({
              title: trans.__('Output Without a Cell'),
              body: ReactWidget.create(<pre>{text}</pre>),
              buttons: [Dialog.okButton({ label: trans.__('Close') })]
            });
          }
        }
      ]
    }
  );
}

/** What a request printed, as plain text. */
function outputText(request: IKept): string {
  return request.messages
    .map(({ content }) => {
      const data = content.data as Record<string, string> | undefined;
      const traceback = content.traceback as string[] | undefined;
      return (
        (content.text as string | undefined) ??
        data?.['text/plain'] ??
        traceback?.join('\n') ??
        ''
      );
    })
    .join('');
}
