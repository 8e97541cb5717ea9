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
export type Action = 'retry' | 'start-on-cpu' | 'open-doctor';

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
}

/** One unasked end of a kernel; time in seconds since the epoch. */
export interface IDeath {
  kernel_id: string;
  kernel_name: string;
  path: string;
  time: number;
  failure: IFailure;
}

async function call(path: string, method: string): Promise<Response> {
  const settings = ServerConnection.makeSettings();
  const url = URLExt.join(settings.baseUrl, 'tfgpu', path);
  const answer = await ServerConnection.makeRequest(url, { method }, settings);
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

/** Ask a launch to stop. */
export async function cancel(kernelId: string): Promise<void> {
  await call(`launches/${encodeURIComponent(kernelId)}`, 'DELETE');
}

/** GPUs, kernels, and the history after `since`. */
export async function gpus(since: number): Promise<IGpuReport> {
  const answer = await call(`gpus?since=${since}`, 'GET');
  return (await answer.json()) as IGpuReport;
}
