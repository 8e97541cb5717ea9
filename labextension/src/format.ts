import type { TranslationBundle } from '@jupyterlab/translation';

import type {
  IDeviceMemory,
  IGpu,
  IGpuReport,
  IHolders,
  IKernel,
  IThresholds
} from './tokens';

const GIB = 2 ** 30;
const MIB = 2 ** 20;

/** What stands for a value that is not known. */
export const UNKNOWN = '–';

/** Bytes as people read them, always with their unit. */
export function bytes(count: number | null): string {
  if (count === null) {
    return UNKNOWN;
  }
  return count >= GIB ? `${gib(count)} GiB` : `${Math.round(count / MIB)} MiB`;
}

/** So much of so much, with the unit once where it is the same. */
export function bytesOf(
  used: number,
  total: number,
  trans: TranslationBundle
): string {
  // nought needs no unit of its own
  if (used === 0) {
    return trans.__('0 of %1', bytes(total));
  }
  return used >= GIB && total >= GIB
    ? trans.__('%1 of %2 GiB', gib(used), gib(total))
    : trans.__('%1 of %2', bytes(used), bytes(total));
}

function gib(count: number): string {
  const value = count / GIB;
  return value >= 100 || Number.isInteger(value)
    ? value.toFixed(0)
    : value.toFixed(1);
}

/** A percentage; null is not known. */
export function percent(value: number | null): string {
  return value === null ? UNKNOWN : `${Math.round(value)}%`;
}

/** A GPU's name without its maker's, which all of them bear; in full it stands in the tooltip. */
export function modelName(name: string): string {
  return name.replace(/^NVIDIA (GeForce )?/, '');
}

/** What a kernel does, in a word or two. */
export function activity(kernel: IKernel, trans: TranslationBundle): string {
  if (kernel.idle_seconds === null) {
    const words: Record<string, string> = {
      busy: trans.__('busy'),
      dead: trans.__('dead'),
      restarting: trans.__('restarting'),
      starting: trans.__('starting')
    };
    return words[kernel.state] ?? kernel.state;
  }
  const minutes = Math.floor(kernel.idle_seconds / 60);
  if (minutes < 1) {
    return trans.__('idle');
  }
  return minutes < 120
    ? trans.__('idle %1 min', minutes)
    : trans.__('idle %1 h', Math.floor(minutes / 60));
}

/** How a kernel is named: by its document, else by its kernel. */
export function kernelName(kernel: IKernel, trans: TranslationBundle): string {
  const name = kernel.path.split('/').pop();
  return name ? name : trans.__('%1, no notebook', kernel.kernel_name);
}

/** The bytes that can be used: all but the driver's own. */
export function usableBytes(memory: IDeviceMemory): number {
  return memory.total_bytes - (memory.reserved_bytes ?? 0);
}

/** How full a device is, 0 to 1. */
export function fullness(memory: IDeviceMemory): number {
  return memory.used_bytes / Math.max(1, usableBytes(memory));
}

/** Orders in which notebooks can be listed. */
export const SORTS = ['memory', 'idle', 'name'] as const;
export type Sort = (typeof SORTS)[number];

/** One kernel in a list, with what it holds of the device that the list belongs to. */
export interface IRow {
  kernel: IKernel;
  used_bytes: number | null;
}

/** The rows in an order that stays the same where values are equal. */
export function sorted(rows: readonly IRow[], sort: Sort): IRow[] {
  const held = (row: IRow): number =>
    row.used_bytes ?? row.kernel.memory?.used_bytes ?? 0;
  const idle = (row: IRow): number => row.kernel.idle_seconds ?? -1;
  const name = (one: IRow, other: IRow): number =>
    one.kernel.path.localeCompare(other.kernel.path) ||
    one.kernel.kernel_id.localeCompare(other.kernel.kernel_id);
  return [...rows].sort((one, other) => {
    const first =
      sort === 'memory'
        ? held(other) - held(one)
        : sort === 'idle'
          ? idle(other) - idle(one)
          : 0;
    return first || name(one, other);
  });
}

/** The kernels on a device: those that hold memory there, and those that were granted it and hold none yet. */
export function rowsOn(
  device: { uuid: string; holders: IHolders | null },
  kernels: readonly IKernel[]
): IRow[] {
  const shares = new Map(
    device.holders?.kernels.map(share => [share.kernel_id, share.used_bytes])
  );
  return kernels
    .filter(
      kernel =>
        shares.has(kernel.kernel_id) || kernel.gpus.includes(device.uuid)
    )
    .map(kernel => ({
      kernel,
      // what nobody could see is not known; what was seen to hold nothing holds 0
      used_bytes:
        shares.get(kernel.kernel_id) ??
        (device.holders && !shares.has(kernel.kernel_id) ? 0 : null)
    }));
}

/** The kernels that are on no device. */
export function rowsOnNone(report: IGpuReport): IRow[] {
  const devices = report.gpus.flatMap(gpu => [gpu, ...gpu.mig]);
  const placed = new Set(
    devices.flatMap(device =>
      rowsOn(device, report.kernels).map(row => row.kernel.kernel_id)
    )
  );
  return report.kernels
    .filter(kernel => !placed.has(kernel.kernel_id))
    .map(kernel => ({ kernel, used_bytes: null }));
}

/** All GPUs in one figure, for a glance; null where the drivers do not tell. */
export function overall(report: IGpuReport): {
  use: number | null;
  used_bytes: number | null;
  usable_bytes: number | null;
} {
  const uses = report.gpus
    .map(gpu => gpu.use_percent)
    .filter(use => use !== null);
  const memories = report.gpus
    .map(gpu => gpu.memory)
    .filter(memory => memory !== null);
  const sum = (values: number[]): number =>
    values.reduce((total, value) => total + value, 0);
  return {
    use: uses.length ? sum(uses) / uses.length : null,
    used_bytes: memories.length
      ? sum(memories.map(memory => memory.used_bytes))
      : null,
    usable_bytes: memories.length ? sum(memories.map(usableBytes)) : null
  };
}

/** One GPU in one line. */
export function gpuLine(gpu: IGpu, trans: TranslationBundle): string {
  const memory = gpu.memory
    ? bytesOf(gpu.memory.used_bytes, usableBytes(gpu.memory), trans)
    : UNKNOWN;
  return trans.__(
    'GPU %1 %2: %3 in use, %4',
    gpu.index,
    gpu.name,
    percent(gpu.use_percent),
    memory
  );
}

/** A GPU that is nearly full, and the idle kernel that would free most. */
export interface IPressure {
  gpu: IGpu;
  memory: IDeviceMemory;
  idlest: IRow | null;
}

/** The GPUs that are fuller than `atPercent`. */
export function pressures(
  report: IGpuReport,
  thresholds: IThresholds,
  atPercent: number
): IPressure[] {
  if (thresholds.percent <= 0) {
    return [];
  }
  return report.gpus.flatMap(gpu => {
    const memory = gpu.memory;
    if (!memory || fullness(memory) * 100 < atPercent) {
      return [];
    }
    const idle = rowsOn(gpu, report.kernels).filter(
      row =>
        (row.kernel.idle_seconds ?? -1) >= thresholds.idleMinutes * 60 &&
        (row.used_bytes ?? 0) > 0
    );
    return [{ gpu, memory, idlest: sorted(idle, 'memory')[0] ?? null }];
  });
}
