import { ReactWidget } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import type { IFailure, INeeds } from './records';

const MOST_PIXELS = 360;

/** What the banner's buttons do. */
export interface IActions {
  /** Agree to what is shown, which the subject names. */
  agree(subject: string): Promise<void>;
  verify(): void;
}

/** Above a locked notebook: what it needs, what of it is here, and the question that its start waits for. */
export class ConsentBanner extends ReactWidget {
  constructor(
    private needs: INeeds | null,
    private failure: IFailure | null,
    private readonly actions: IActions,
    private readonly trans: TranslationBundle
  ) {
    super();
    this.addClass('tfgpu-consent');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', trans.__('What this notebook needs'));
  }

  /** Show another state of the same notebook. */
  tell(needs: INeeds | null, failure: IFailure | null): void {
    this.needs = needs;
    this.failure = failure;
    this.update();
  }

  override dispose(): void {
    this.observer.disconnect();
    super.dispose();
  }

  protected override render(): React.ReactElement {
    return <div ref={body => this.observe(body)}>{this.content()}</div>;
  }

  private content(): React.ReactElement | null {
    const { trans, needs, failure } = this;
    if (failure) {
      return (
        <div className="tfgpu-consent-refused" role="alert">
          {failure.message} <b>{trans.__('What to do:')}</b> {failure.remedy}
        </div>
      );
    }
    if (!needs) {
      return null;
    }
    return (
      <details open={needs.asks.length > 0}>
        <summary>
          {needs.asks.length > 0
            ? trans.__('This notebook is locked, and waits for your consent')
            : trans.__('This notebook is locked to %1', needs.image)}
        </summary>
        <ul className="tfgpu-consent-needs">
          {needs.needs.map(need => (
            <li key={need.what} data-state={need.state}>
              {need.state === 'here' ? '✓' : '✗'} {need.what}
              {need.more ? ` (${need.more})` : ''}
            </li>
          ))}
        </ul>
        {needs.ignored.length > 0 && (
          <p>
            {trans.__(
              'Ignored, since no notebook decides about such things: %1',
              needs.ignored.join(', ')
            )}
          </p>
        )}
        {needs.asks.length > 0 && (
          <>
            <p>{trans.__('To start it, you would agree that:')}</p>
            <ul className="tfgpu-consent-asks">
              {needs.asks.map(ask => (
                <li key={ask}>{ask}</li>
              ))}
            </ul>
            <button
              className="jp-mod-styled jp-mod-accept"
              onClick={() => void this.actions.agree(needs.subject)}
            >
              {trans.__('Agree')}
            </button>
          </>
        )}
        {needs.asks.length === 0 && needs.locked && (
          <button
            className="jp-mod-styled"
            onClick={() => this.actions.verify()}
          >
            {trans.__('Verify')}
          </button>
        )}
      </details>
    );
  }

  /** Lumino lays out by minimal heights, and doesn't see what React renders. */
  private observe(body: HTMLElement | null): void {
    this.observer.disconnect();
    if (body) {
      this.observer.observe(body);
    }
  }

  private readonly observer = new ResizeObserver(entries => {
    const full = entries[0]?.target.scrollHeight ?? 0;
    const height = `${full ? Math.min(full + 8, MOST_PIXELS) : 0}px`;
    if (this.node.style.minHeight !== height) {
      this.node.style.minHeight = this.node.style.maxHeight = height;
      this.parent?.fit();
    }
  });
}
