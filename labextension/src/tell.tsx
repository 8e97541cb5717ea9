import { Dialog, Notification, showDialog } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import * as React from 'react';

import { Remedy } from './remedy';
import type { IFailure } from './records';
import { failureText } from './words';

/** So many characters of a notification are shown by JupyterLab; the rest is cut off. */
const LONGEST = 140;

/** Warn of something, until it is closed; where cause and remedy are too long together, a button shows them whole. */
export function tell(failure: IFailure, trans: TranslationBundle): void {
  const whole = failureText(failure, trans);
  if (whole.length <= LONGEST) {
    Notification.warning(whole, { autoClose: false });
    return;
  }
  Notification.warning(failure.message, {
    autoClose: false,
    actions: [
      {
        label: trans.__('What to Do'),
        displayType: 'accent',
        callback: event => {
          event.preventDefault(); // the notification stays
          more(failure, trans);
        }
      }
    ]
  });
}

/** A button that shows a text whole, where it is longer than a notification shows. */
export function readAll(
  text: string,
  trans: TranslationBundle
): Notification.IAction[] {
  return text.length <= LONGEST
    ? []
    : [
        {
          label: trans.__('Read All'),
          callback: event => {
            event.preventDefault(); // the notification stays
            void showDialog({
              title: trans.__('About This Kernel’s Image'),
              body: text,
              buttons: [Dialog.okButton({ label: trans.__('Close') })]
            });
          }
        }
      ];
}

function more(failure: IFailure, trans: TranslationBundle): void {
  const dialog = new Dialog({
    title: trans.__('What to Do'),
    body: ReactWidget.create(
      <Remedy
        failure={failure}
        actions={[]}
        perform={() => undefined}
        trans={trans}
      />
    ),
    buttons: [Dialog.okButton({ label: trans.__('Close') })],
    hasClose: true
  });
  void dialog.launch();
}
