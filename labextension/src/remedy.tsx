import { Clipboard } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import type { Action, IFailure } from './records';
import { actionLabel, failureText } from './words';

/** What went wrong, the one thing to do, buttons for it, and the rest folded away. */
export function Remedy(props: {
  failure: IFailure;
  actions: readonly Action[];
  perform: (action: Action) => void;
  dismiss?: () => void;
  trans: TranslationBundle;
}): React.ReactElement {
  const { failure, actions, perform, dismiss, trans } = props;
  return (
    <div className="tfgpu-Remedy" role="alert">
      <div className="tfgpu-Remedy-message">{failure.message}</div>
      {failure.remedy && (
        <div className="tfgpu-Remedy-remedy">
          <b>{trans.__('What to do:')}</b> {failure.remedy}
        </div>
      )}
      {failure.details && (
        <details className="tfgpu-Remedy-details">
          <summary>{trans.__('Details')}</summary>
          <pre>{failure.details}</pre>
        </details>
      )}
      <div className="tfgpu-Remedy-buttons">
        {actions.map((action, index) => (
          <button
            key={action}
            className={`jp-mod-styled ${index === 0 ? 'jp-mod-accept' : 'jp-mod-reject'}`}
            onClick={() => perform(action)}
          >
            {actionLabel(action, trans)}
          </button>
        ))}
        <CopyButton text={failureText(failure, trans)} trans={trans} />
        {dismiss && (
          <button className="jp-mod-styled jp-mod-reject" onClick={dismiss}>
            {trans.__('Dismiss')}
          </button>
        )}
      </div>
    </div>
  );
}

/** A button that copies, and says that it has. */
export function CopyButton(props: {
  text: string;
  trans: TranslationBundle;
}): React.ReactElement {
  const { text, trans } = props;
  const [copied, setCopied] = React.useState(false);
  return (
    <button
      className="jp-mod-styled jp-mod-reject"
      onClick={() => {
        Clipboard.copyToSystem(text);
        setCopied(true);
      }}
    >
      {copied ? trans.__('Copied') : trans.__('Copy')}
    </button>
  );
}
