/* What the server answers; the modules of tfgpu_kernel/server that are named say what each field means. */

/** What went wrong, as tfgpu_kernel/server/records.py has it. */
export interface IFailure {
  code: string;
  message: string;
  remedy: string;
  details: string;
  actions: readonly Action[];
}

/** What one click can do about a failure, as tfgpu_kernel/server/actions.py has it. */
export type Action =
  'retry' | 'start-on-cpu' | 'use-preset' | 'free-gpu' | 'open-doctor';

/** One launch; times in seconds since the epoch. */
export interface ILaunch {
  kernel_id: string;
  kernel_name: string;
  path: string;
  restart: boolean;
  started: number;
  phase: string;
  text: string;
  fraction: number | null;
  done: number | null;
  total: number | null;
  seconds_left: number | null;
  ended: number | null;
  failure: IFailure | null;
  /** Sentences to read: why this image, and what won't work with it on this machine. */
  notices: string[];
  preset: string;
}

/** One unasked end of a kernel; time in seconds since the epoch. */
export interface IDeath {
  kernel_id: string;
  kernel_name: string;
  path: string;
  time: number;
  failure: IFailure;
}

/** One rung of the doctor's ladder, or what stands beside it; see tfgpu_kernel/health/findings.py. */
export interface IFinding {
  name: string;
  title: string;
  state: 'ok' | 'warning' | 'broken' | 'not reached';
  message: string;
  remedy: string;
  details: string;
  part: 'ladder' | 'beside';
}

/** An examination of the machine as it stands; see tfgpu_kernel/server/doctor.py. */
export interface IExamination {
  image: string;
  containers: boolean;
  started: number | null;
  ended: number | null;
  looking: string;
  findings: IFinding[];
  verdict: string;
  report: string;
}

/** A kernel that will be shut down, since it holds a GPU and is idle; see tfgpu_kernel/server/idle.py. */
export interface IIdleWarning {
  kernel_id: string;
  kernel_name: string;
  path: string;
  gpus: number[];
  used_bytes: number | null;
  idle_since: number;
  ends: number;
}

/** An image that is known to work on this machine; see tfgpu_kernel/server/preset.py. */
export interface IPreset {
  name: string;
  reference: string;
  inside: string;
  size_bytes: number;
  built: boolean;
}

/** Whether the Docker engine answers. */
export interface IEngine {
  answering: boolean;
  since: number;
  text: string;
}

/** One thing that a locked notebook needs. */
export interface INeed {
  what: string;
  state: 'here' | 'missing' | 'too small';
  more: string;
}

/** What a locked notebook needs, and what a consent is asked for; see tfgpu_kernel/lock/needs.py. */
export interface INeeds {
  image: string;
  subject: string;
  needs: INeed[];
  asks: string[];
  ignored: string[];
  locked: boolean;
  kept: string[];
}

/** A run of lock, verify, add or remove; see tfgpu_kernel/server/jobs.py. */
export interface IJob {
  id: string;
  verb: Verb;
  path: string;
  state: 'running' | 'done' | 'failed' | 'cancelled';
  code: number | null;
  text: string;
  fraction: number | null;
  lines: string[];
  report: boolean;
}

export type Verb = 'lock' | 'verify' | 'add' | 'remove';

/** One message of a kernel, and the request that it answers. */
export interface IKeptMessage {
  id: string;
  request: string;
  type: string;
  content: Record<string, unknown>;
}

/** What a request of a former page printed while no page could get it. */
export interface IKept {
  cell_id: string;
  /** The fingerprint of the code that was sent. */
  code: string;
  msg_id: string;
  /** Whether nothing more of it comes, but for what a thread of its prints. */
  ended: boolean;
  /** Whether the messages are all of the request's, from its beginning on. */
  whole: boolean;
  messages: readonly Omit<IKeptMessage, 'request'>[];
}
