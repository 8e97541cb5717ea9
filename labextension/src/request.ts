import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import type {
  IFailure,
  ILaunch,
  IDeath,
  IExamination,
  IIdleWarning,
  IPreset,
  IEngine,
  INeeds,
  IJob,
  Verb,
  IKept
} from './records';
import type { IGpuReport } from './tokens';

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
    throw await ServerConnection.ResponseError.create(answer);
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

/** The examination under way, or the latest. */
export async function examination(): Promise<IExamination> {
  return (await (await call('doctor', 'GET')).json()) as IExamination;
}

/** Begin an examination; with `containers` one is started for the upper rungs. */
export async function examine(containers: boolean): Promise<IExamination> {
  const answer = await call('doctor', 'POST', { containers });
  return (await answer.json()) as IExamination;
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

/** Ask whether the Docker engine answers. */
export async function engine(): Promise<IEngine> {
  return (await (await call('engine', 'GET')).json()) as IEngine;
}

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

/** Whether a call may succeed when it is made again: the server, or the way to it, is down for a moment. */
export function passes(error: unknown): boolean {
  return !(
    error instanceof ServerConnection.ResponseError &&
    error.response.status < 500
  );
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

function keptOf(kernelId: string, clientId: string): string {
  const query = URLExt.objectToQueryString({ session: clientId });
  return `kept/${encodeURIComponent(kernelId)}${query}`;
}

/** What a kernel printed while no page could get it; nothing for a page that gets it on its channels. */
export async function kept(
  kernelId: string,
  clientId: string
): Promise<IKept[]> {
  const answer = await call(keptOf(kernelId, clientId), 'GET');
  return ((await answer.json()) as { requests: IKept[] }).requests;
}

/** Say that this page has what it asked for, but for some requests; the server forgets the others. */
export async function tookKept(
  kernelId: string,
  clientId: string,
  left: readonly string[]
): Promise<void> {
  await call(keptOf(kernelId, clientId), 'DELETE', { left });
}
