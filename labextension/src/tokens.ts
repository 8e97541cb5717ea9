import { Token } from '@lumino/coreutils';
import type { ISignal } from '@lumino/signaling';

/*
 * What GET /tfgpu/gpus answers; tfgpu_kernel/server/gpu_records.py says what each field means.
 * Bytes, seconds since the epoch, and null for what is not known.
 */

/** A device's memory. */
export interface IDeviceMemory {
  total_bytes: number;
  used_bytes: number;
  free_bytes: number;
  reserved_bytes: number | null;
}

/** What so many processes hold. */
export interface IHeld {
  used_bytes: number | null;
  processes: number;
}

/** What one kernel holds of a device. */
export interface IShare extends IHeld {
  kernel_id: string;
}

/** Who holds a device's memory. */
export interface IHolders {
  kernels: IShare[];
  warm: IHeld;
  others: IHeld;
}

/** One MIG device. */
export interface IMig {
  uuid: string;
  name: string | null;
  memory: IDeviceMemory | null;
  holders: IHolders | null;
}

/** One GPU. */
export interface IGpu {
  index: number;
  uuid: string;
  name: string;
  use_percent: number | null;
  memory: IDeviceMemory | null;
  holders: IHolders | null;
  mig: IMig[];
}

/** A container's main memory. */
export interface IMainMemory {
  used_bytes: number;
  limit_bytes: number | null;
}

/** One kernel of this server. */
export interface IKernel {
  kernel_id: string;
  kernel_name: string;
  path: string;
  kind: string;
  state: string;
  idle_seconds: number | null;
  in_container: boolean;
  gpus: string[];
  memory: IMainMemory | null;
}

/** One device's history, a value for each time. */
export interface ISeries {
  use_percent: (number | null)[];
  used_bytes: (number | null)[];
}

/** The last ten minutes; in an answer only what is new. */
export interface IHistory {
  times: number[];
  gpus: Record<string, ISeries>;
}

/** The whole answer. */
export interface IGpuReport {
  time: number;
  every_seconds: number;
  driver: string | null;
  cuda: string | null;
  no_gpu: { message: string; remedy: string } | null;
  gpus: IGpu[];
  lost: { index: number; cause: string }[];
  sees_processes: boolean;
  kernels: IKernel[];
  warm: { count: number; memory_bytes: number | null };
  history: IHistory;
}

/** When to warn; from the user's settings. */
export interface IThresholds {
  /** Fullness from which a GPU counts as nearly full; 0 for never. */
  percent: number;
  /** From when on a notebook counts as idle. */
  idleMinutes: number;
}

/** The GPUs, and who is on them, as they are now; asks the server only while the page is seen. */
export interface IGpuModel {
  /** The latest answer; null before the first. */
  readonly report: IGpuReport | null;
  /** Ten minutes, put together from all answers. */
  readonly history: IHistory;
  /** When to warn. */
  readonly thresholds: IThresholds;
  /** After each answer. */
  readonly changed: ISignal<IGpuModel, void>;
  /** Ask now. */
  refresh(): Promise<void>;
}

/** Whoever shows GPUs asks for this. */
export const IGpuModel = new Token<IGpuModel>(
  '@tfgpu/labextension:IGpuModel',
  'The GPUs of the server, and which notebook holds how much of them.'
);

/** The commands that views run; each is registered by the plugin that it is about. */
export const Commands = {
  openPanel: 'tfgpu:open-panel',
  restartOnGpu: 'tfgpu:restart-on-gpu',
  doctor: 'tfgpu:doctor'
} as const;
