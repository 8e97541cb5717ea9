import type { JupyterFrontEndPlugin } from '@jupyterlab/application';
import {
  ICommandPalette,
  MainAreaWidget,
  WidgetTracker
} from '@jupyterlab/apputils';
import {
  ITranslator,
  nullTranslator,
  type TranslationBundle
} from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import * as React from 'react';

import { gpuIcon } from './icon';
import { CopyButton } from './remedy';
import type { IExamination, IFinding } from './records';
import { examination, examine } from './request';
import { Commands } from './tokens';

const EVERY_MS = 400;

const SYMBOLS: Record<IFinding['state'], string> = {
  ok: '✓',
  warning: '!',
  broken: '✗',
  'not reached': '·'
};

/** The ladder from the driver up to TensorFlow: what holds, what doesn't, and what to do about it. */
class DoctorView extends ReactWidget {
  constructor(private readonly _trans: TranslationBundle) {
    super();
    this.addClass('tfgpu-Doctor');
  }

  /** Examine the machine; with `containers` a container is started as well. */
  async run(containers: boolean): Promise<void> {
    await this._follow(() => examine(containers));
  }

  protected override onAfterAttach(): void {
    void this.run(false);
  }

  protected override render(): React.ReactElement {
    const trans = this._trans;
    const state = this._state;
    const running = this._running;
    return (
      <>
        <div className="tfgpu-Doctor-head">
          <p role="status" className="tfgpu-Doctor-verdict">
            {running
              ? trans.__('Looking at %1…', state?.looking || '…')
              : this._problem || state?.verdict}
          </p>
          {running && <progress aria-label={trans.__('Examination')} />}
          <div className="tfgpu-Remedy-buttons">
            <button
              className="jp-mod-styled jp-mod-accept"
              disabled={running}
              onClick={() => void this.run(false)}
            >
              {trans.__('Run Again')}
            </button>
            <button
              className="jp-mod-styled jp-mod-reject"
              disabled={running}
              title={trans.__(
                'Starts a container with a GPU for the upper rungs; nothing is downloaded.'
              )}
              onClick={() => void this.run(true)}
            >
              {trans.__('Also Try a Container')}
            </button>
            {state?.report && <CopyButton text={state.report} trans={trans} />}
          </div>
        </div>
        {this._rungs('ladder', trans.__('The way to the GPU'))}
        {this._rungs('beside', trans.__('Beside it'))}
      </>
    );
  }

  private _rungs(
    part: IFinding['part'],
    heading: string
  ): React.ReactElement | null {
    const found = (this._state?.findings ?? []).filter(
      finding => finding.part === part
    );
    return found.length === 0 ? null : (
      <section aria-label={heading}>
        <h3>{heading}</h3>
        <ol className="tfgpu-Doctor-rungs">
          {found.map(finding => (
            <Rung key={finding.name} finding={finding} trans={this._trans} />
          ))}
        </ol>
      </section>
    );
  }

  private get _running(): boolean {
    const state = this._state;
    return (
      !this._problem &&
      (state === null || (state.started !== null && state.ended === null))
    );
  }

  private async _follow(begin: () => Promise<IExamination>): Promise<void> {
    if (this._following) {
      return;
    }
    this._following = true;
    this._problem = '';
    try {
      this._state = await begin();
      this.update();
      while (this._running && !this.isDisposed) {
        await new Promise(done => window.setTimeout(done, EVERY_MS));
        this._state = await examination();
        this.update();
      }
    } catch (error) {
      this._problem = this._trans.__(
        'The server gave no answer: %1',
        error instanceof Error ? error.message : String(error)
      );
      this.update();
    } finally {
      this._following = false;
    }
  }

  private _state: IExamination | null = null;
  private _problem = '';
  private _following = false;
}

/** One rung: whether it holds, why, the one thing to do, and the original text folded away. */
function Rung(props: {
  finding: IFinding;
  trans: TranslationBundle;
}): React.ReactElement {
  const { finding, trans } = props;
  const words: Record<IFinding['state'], string> = {
    ok: trans.__('holds'),
    warning: trans.__('warning'),
    broken: trans.__('broken'),
    'not reached': trans.__('not looked at')
  };
  const remedy = finding.state === 'ok' ? '' : finding.remedy;
  return (
    <li className="tfgpu-Doctor-rung" data-state={finding.state}>
      <span
        className="tfgpu-Doctor-symbol"
        role="img"
        aria-label={words[finding.state]}
      >
        {SYMBOLS[finding.state]}
      </span>
      <div>
        <b>{finding.title}</b> {finding.message}
        {remedy && (
          <div className="tfgpu-Doctor-remedy">
            <span>
              <b>{trans.__('What to do:')}</b> {remedy}
            </span>
            <CopyButton text={remedy} trans={trans} />
          </div>
        )}
        {finding.details && (
          <details className="tfgpu-Remedy-details">
            <summary>{trans.__('Details')}</summary>
            <pre>{finding.details}</pre>
          </details>
        )}
      </div>
    </li>
  );
}

/** The doctor's page, and the command that opens it. Its menu is in schema/doctor.json. */
export const doctor: JupyterFrontEndPlugin<void> = {
  id: '@tfgpu/labextension:doctor',
  description: 'Shows what is wrong with this machine, and what to do.',
  autoStart: true,
  optional: [ICommandPalette, ITranslator],
  activate: (
    app,
    palette: ICommandPalette | null,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load('tfgpu_kernel');
    const tracker = new WidgetTracker<MainAreaWidget<DoctorView>>({
      namespace: 'tfgpu-doctor'
    });
    app.commands.addCommand(Commands.doctor, {
      label: trans.__('Find Out What Is Missing for GPUs'),
      caption: trans.__(
        'Examines this machine, from the driver to TensorFlow in a container'
      ),
      icon: gpuIcon,
      execute: async () => {
        let widget = tracker.currentWidget;
        if (widget && !widget.isDisposed) {
          void widget.content.run(false);
        } else {
          widget = new MainAreaWidget({ content: new DoctorView(trans) });
          widget.id = 'tfgpu-doctor';
          widget.title.label = trans.__('Doctor');
          widget.title.icon = gpuIcon;
          widget.title.closable = true;
          app.shell.add(widget, 'main');
          await tracker.add(widget);
        }
        app.shell.activateById(widget.id);
      }
    });
    palette?.addItem({ command: Commands.doctor, category: trans.__('GPU') });
  }
};
