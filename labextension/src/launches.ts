import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import type { ISessionContext } from '@jupyterlab/apputils';
import { PathExt } from '@jupyterlab/coreutils';
import { Token } from '@lumino/coreutils';
import { Poll } from '@lumino/polling';
import { Signal, type ISignal } from '@lumino/signaling';

import { anew } from './poll';
import type { IDeath, IFailure, ILaunch } from './records';
import { cancel, deaths, launches as ask } from './request';

const EVENTS = ['urn:tfgpu-kernel:launch:v1', 'urn:tfgpu-kernel:death:v1'];
/** What is told to a page that is opened later, too: ends that nobody saw, and kernels that the server hasn't got. */
const NEWS = ['gpu-freed', 'kernel-culled', 'kernel-not-adopted'];

/** Something went wrong with a notebook's kernel: a launch that failed, or a kernel that died. */
export interface ITrouble {
  kernelId: string;
  kernelName: string;
  path: string;
  failure: IFailure;
  /** Whether it is a launch that failed; else a running kernel died. */
  launch: boolean;
}

/** A sentence to read that came with a launch. */
export interface INote {
  text: string;
  launch: ILaunch;
}

/** What happens to kernels in containers, as the server tells it. */
export interface ILaunches {
  /** Emitted when a launch went on, or when there is new trouble, or less of it. */
  readonly changed: ISignal<ILaunches, void>;
  /** Emitted once for each failure and death since the page was opened. */
  readonly troubled: ISignal<ILaunches, ITrouble>;
  /** All that is not dismissed, and whose kernel was not launched again. */
  readonly troubles: readonly ITrouble[];
  /** Emitted once for each sentence to read that came with a launch, such as why it got this image. */
  readonly noted: ISignal<ILaunches, INote>;
  /** The launches under way, oldest first. */
  readonly current: readonly ILaunch[];
  /** The launch under way for a notebook. */
  of(path: string, kernelId: string | undefined): ILaunch | undefined;
  /** The latest trouble of a notebook, until it is dismissed or its kernel is launched again. */
  trouble(path: string, kernelId: string | undefined): ITrouble | undefined;
  /** Every message that a failure was told with, so that it isn't told twice. */
  readonly told: ReadonlySet<string>;
  /** Whether a kernel died lately; Lab's own words on it are then not needed. */
  died(path: string): boolean;
  /** How long ago a notebook's launch failed or was cancelled, in milliseconds. */
  sinceFailure(path: string): number;
  dismiss(trouble: ITrouble): void;
  cancel(launch: ILaunch): Promise<void>;
  refresh(): Promise<void>;
}

export const ILaunches = new Token<ILaunches>(
  '@tfgpu/labextension:ILaunches',
  'The launches of kernels in containers, and why kernels failed.'
);

/** The path of a notebook's or console's launches: its folder, and the name of its session. */
export function launchPath(context: ISessionContext): string {
  return PathExt.join(PathExt.dirname(context.path), context.name);
}

/** Holds the state that all views of launches share. */
class Launches implements ILaunches {
  constructor(app: JupyterFrontEnd) {
    // events are hints and can be lost, so a slow poll stands behind them
    this._poll = new Poll({
      name: '@tfgpu/labextension:launches',
      frequency: { interval: 5000, backoff: true, max: 60000 },
      standby: 'when-hidden',
      factory: () => this._load()
    });
    app.serviceManager.events.stream.connect((_, event) => {
      if (EVENTS.includes(event.schema_id)) {
        void this.refresh();
      }
    });
  }

  get changed(): ISignal<ILaunches, void> {
    return this._changed;
  }

  get troubled(): ISignal<ILaunches, ITrouble> {
    return this._troubled;
  }

  get troubles(): readonly ITrouble[] {
    return this._troubles;
  }

  get noted(): ISignal<ILaunches, INote> {
    return this._noted;
  }

  get current(): readonly ILaunch[] {
    return this._current;
  }

  get told(): ReadonlySet<string> {
    return this._told;
  }

  of(path: string, kernelId: string | undefined): ILaunch | undefined {
    return this._current.find(
      launch => launch.path === path || launch.kernel_id === kernelId
    );
  }

  trouble(path: string, kernelId: string | undefined): ITrouble | undefined {
    return this._troubles.find(
      trouble => trouble.path === path || trouble.kernelId === kernelId
    );
  }

  died(path: string): boolean {
    return this._troubles.some(
      trouble => !trouble.launch && trouble.path === path
    );
  }

  sinceFailure(path: string): number {
    return Date.now() - (this._failed.get(path) ?? 0);
  }

  dismiss(trouble: ITrouble): void {
    this._troubles = this._troubles.filter(other => other !== trouble);
    this._changed.emit();
  }

  async cancel(launch: ILaunch): Promise<void> {
    try {
      await cancel(launch.kernel_id);
    } finally {
      await this.refresh();
    }
  }

  async refresh(): Promise<void> {
    await anew(this._poll);
  }

  private async _load(): Promise<void> {
    const asked = ++this._asked;
    const [all, dead] = await Promise.all([ask(), deaths()]);
    if (asked < this._answered) {
      return; // a later question was answered before
    }
    this._answered = asked;
    this._current = all.filter(launch => launch.ended === null);
    for (const launch of all) {
      const key = `${launch.kernel_id} ${launch.started}`;
      if (launch.ended === null || !this._first) {
        this._note(launch);
      }
      if (launch.ended === null) {
        // a new start leaves earlier failures behind; a death is still news while its kernel is restarted
        this._forget(trouble => trouble.launch && concerns(trouble, launch));
      } else if (!this._over.has(key)) {
        this._over.add(key);
        if (!launch.failure) {
          // it went well, and so fast that it was never seen under way
          this._forget(trouble => trouble.launch && concerns(trouble, launch));
        }
        // what ended before this page was opened is history
        if (!this._first && launch.failure) {
          this._told.add(launch.failure.message);
          this._failed.set(launch.path, Date.now());
          if (launch.phase !== 'cancelled') {
            this._add(launch, launch.failure, true);
          }
        }
      }
    }
    for (const death of dead) {
      const key = `${death.kernel_id} ${death.time}`;
      if (!this._over.has(key)) {
        this._over.add(key);
        // a kernel that was ended while nobody looked is news to the page that is opened next
        if (
          !this._first ||
          (NEWS.includes(death.failure.code) && !startedSince(death, all))
        ) {
          this._add(death, death.failure, false);
        }
      }
    }
    this._first = false;
    this._changed.emit();
  }

  private _note(launch: ILaunch): void {
    for (const text of launch.notices) {
      // ten notebooks on the same image need not say it ten times
      if (!this._sentences.has(text)) {
        this._sentences.add(text);
        this._noted.emit({ text, launch });
      }
    }
  }

  private _add(of: ILaunch | IDeath, failure: IFailure, launch: boolean): void {
    const trouble = {
      kernelId: of.kernel_id,
      kernelName: of.kernel_name,
      path: of.path,
      failure,
      launch
    };
    this._forget(other => concerns(other, of));
    this._troubles.push(trouble);
    this._troubled.emit(trouble);
  }

  private _forget(which: (trouble: ITrouble) => boolean): void {
    this._troubles = this._troubles.filter(trouble => !which(trouble));
  }

  private readonly _poll: Poll;
  private readonly _changed = new Signal<ILaunches, void>(this);
  private readonly _troubled = new Signal<ILaunches, ITrouble>(this);
  private readonly _noted = new Signal<ILaunches, INote>(this);
  private readonly _sentences = new Set<string>();
  private readonly _over = new Set<string>();
  private readonly _told = new Set<string>();
  private readonly _failed = new Map<string, number>();
  private _current: ILaunch[] = [];
  private _troubles: ITrouble[] = [];
  private _first = true;
  private _asked = 0;
  private _answered = 0;
}

function concerns(trouble: ITrouble, of: ILaunch | IDeath): boolean {
  return (
    trouble.kernelId === of.kernel_id ||
    (of.path !== '' && trouble.path === of.path)
  );
}

/** Whether a notebook's kernel was started anew after it died. */
function startedSince(death: IDeath, all: readonly ILaunch[]): boolean {
  return all.some(
    launch => launch.path === death.path && launch.started > death.time
  );
}

/** Provides the launches and deaths that the server knows. */
export const launches: JupyterFrontEndPlugin<ILaunches> = {
  id: '@tfgpu/labextension:launches',
  description: 'Follows the launches of kernels, and their deaths.',
  autoStart: true,
  provides: ILaunches,
  activate: app => new Launches(app)
};
