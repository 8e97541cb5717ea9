import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import type { IGpuReport } from './tokens';

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

async function call(
  path: string,
  method: string,
  body?: object
): Promise<Response> {
  const settings = ServerConnection.makeSettings();
  const url = URLExt.join(settings.baseUrl, 'tfgpu', path);
  const answer = await ServerConnection.makeRequest(
    url,
    { method, ...(body && { body: JSON.stringify(body) }) },
    settings
  );
  if (!answer.ok) {
    throw new ServerConnection.ResponseError(answer);
  }
  return answer;
}

/** The launches that ended lately, then those under way. */
export async function launches(): Promise<ILaunch[]> {
  const answer = await call('launches', 'GET');
  return ((await answer.json()) as { launches: ILaunch[] }).launches;
}

/** Why kernels died lately, oldest first. */
export async function deaths(): Promise<IDeath[]> {
  const answer = await call('deaths', 'GET');
  return ((await answer.json()) as { deaths: IDeath[] }).deaths;
}

/** What users of running kernels must be told, oldest first. */
export async function notices(): Promise<IDeath[]> {
  const answer = await call('notices', 'GET');
  return ((await answer.json()) as { notices: IDeath[] }).notices;
}

/** Ask a launch to stop. */
export async function cancel(kernelId: string): Promise<void> {
  await call(`launches/${encodeURIComponent(kernelId)}`, 'DELETE');
}

/** GPUs, kernels, and the history after `since`. */
export async function gpus(since: number): Promise<IGpuReport> {
  const answer = await call(`gpus?since=${since}`, 'GET');
  return (await answer.json()) as IGpuReport;
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

/** The examination under way, or the latest. */
export async function examination(): Promise<IExamination> {
  return (await (await call('doctor', 'GET')).json()) as IExamination;
}

/** Begin an examination; with `containers` one is started for the upper rungs. */
export async function examine(containers: boolean): Promise<IExamination> {
  const answer = await call('doctor', 'POST', { containers });
  return (await answer.json()) as IExamination;
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

/** The idle kernels that are warned of, next to end first. */
export async function idleWarnings(): Promise<IIdleWarning[]> {
  const answer = await call('idle', 'GET');
  return ((await answer.json()) as { warnings: IIdleWarning[] }).warnings;
}

/** Let a kernel that is warned of be idle for the whole time anew. */
export async function keepKernel(kernelId: string): Promise<void> {
  await call(`kernels/${encodeURIComponent(kernelId)}/keep`, 'POST');
}

/** An image that is known to work on this machine; see tfgpu_kernel/server/preset.py. */
export interface IPreset {
  name: string;
  reference: string;
  inside: string;
  size_bytes: number;
  built: boolean;
}

/** The newest image that is known to work here. */
export async function suitingPreset(): Promise<IPreset> {
  return (await (await call('preset', 'GET')).json()) as IPreset;
}

/** Make a launcher entry like this kernel's with a preset's image; return its name. */
export async function installPreset(
  kernelName: string,
  preset: string
): Promise<string> {
  const answer = await call('preset', 'POST', {
    kernel_name: kernelName,
    preset
  });
  return ((await answer.json()) as { kernel_name: string }).kernel_name;
}

/** Whether the Docker engine answers. */
export interface IEngine {
  answering: boolean;
  since: number;
  text: string;
}

/** Ask whether the Docker engine answers. */
export async function engine(): Promise<IEngine> {
  return (await (await call('engine', 'GET')).json()) as IEngine;
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

/** What a notebook needs; null where it has no lock. */
export async function needs(
  path: string
): Promise<{ needs: INeeds | null; failure: IFailure | null }> {
  const answer = await call(
    `sharing/needs?path=${encodeURIComponent(path)}`,
    'GET'
  );
  return (await answer.json()) as {
    needs: INeeds | null;
    failure: IFailure | null;
  };
}

/** Agree to what the banner of a notebook says. */
export async function agree(path: string, subject: string): Promise<void> {
  await call('sharing/consent', 'POST', { path, subject });
}

/** Start a job. */
export async function startJob(
  verb: Verb,
  path: string,
  packages: string[] = []
): Promise<IJob> {
  const answer = await call('sharing/jobs', 'POST', { verb, path, packages });
  return (await answer.json()) as IJob;
}

/** How far a job is. */
export async function job(id: string): Promise<IJob> {
  return (await (await call(`sharing/jobs/${id}`, 'GET')).json()) as IJob;
}

/** End a job. */
export async function cancelJob(id: string): Promise<void> {
  await call(`sharing/jobs/${id}`, 'DELETE');
}

/** The report of a verification, as HTML that runs no code. */
export async function report(id: string): Promise<string> {
  return (await call(`sharing/jobs/${id}/report`, 'GET')).text();
}

/** Choose the GPUs that a kernel has from its next restart on. */
export async function moveKernel(
  kernelId: string,
  uuids: string[]
): Promise<void> {
  await call(`kernels/${encodeURIComponent(kernelId)}/gpus`, 'PUT', {
    gpus: uuids
  });
}

/** Make a terminal in a kernel's container; return its name. */
export async function openTerminal(kernelId: string): Promise<string> {
  const answer = await call(
    `kernels/${encodeURIComponent(kernelId)}/terminal`,
    'POST'
  );
  return ((await answer.json()) as { name: string }).name;
}

/** Where a browser finds a port of a kernel's container. */
export function portUrl(kernelId: string, port: number): string {
  const { baseUrl } = ServerConnection.makeSettings();
  return URLExt.join(
    baseUrl,
    'tfgpu/kernels',
    encodeURIComponent(kernelId),
    `proxy/${port}/`
  );
}

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
  msg_id: string;
  /** Whether the messages are all of the request's, from its beginning on. */
  whole: boolean;
  messages: readonly Omit<IKeptMessage, 'request'>[];
}

/** Take what a kernel printed while no page could get it; once. */
export async function takeKept(kernelId: string): Promise<IKept[]> {
  const answer = await call(`kept/${encodeURIComponent(kernelId)}`, 'DELETE');
  return ((await answer.json()) as { requests: IKept[] }).requests;
}
