import type { TranslationBundle } from '@jupyterlab/translation';
import {
  closeIcon,
  refreshIcon,
  stopIcon,
  type LabIcon
} from '@jupyterlab/ui-components';
import * as React from 'react';

import type { Act, Verb } from './actions';
import { Chart } from './chart';
import {
  activity,
  bytes,
  bytesOf,
  fullness,
  kernelName,
  modelName,
  percent,
  rowsOn,
  sorted,
  usableBytes,
  type IRow,
  type Sort
} from './format';
import type {
  IDeviceMemory,
  IGpu,
  IHistory,
  IHolders,
  IKernel
} from './tokens';

/** What all parts of the panel need to show a kernel. */
export interface IContext {
  trans: TranslationBundle;
  act: Act;
  sort: Sort;
  kernels: readonly IKernel[];
  /** From when on a device counts as nearly full, in percent; 0 for never. */
  warnPercent: number;
}

const HUES = 6;

/** The colour of a kernel, the same in every list and bar. */
function hue(kernelId: string, kernels: readonly IKernel[]): number {
  return (
    Math.max(
      0,
      kernels.findIndex(kernel => kernel.kernel_id === kernelId)
    ) % HUES
  );
}

/** One GPU: name, use, ten minutes of history, memory, and who holds it. */
export function GpuCard(
  props: { gpu: IGpu; history: IHistory; now: number } & IContext
): React.ReactElement {
  const { gpu, history, now, trans } = props;
  const series = history.gpus[gpu.uuid] ?? { use_percent: [], used_bytes: [] };
  const known = series.use_percent.filter(value => value !== null);
  const label = trans.__(
    'Use over the last ten minutes: now %1, at most %2',
    percent(gpu.use_percent),
    percent(known.length ? Math.max(...known) : null)
  );
  return (
    <section
      className="tfgpu-Gpu"
      aria-label={trans.__('GPU %1 %2', gpu.index, gpu.name)}
    >
      <header className="tfgpu-Gpu-head">
        <span className="tfgpu-Gpu-index">{gpu.index}</span>
        <h3 className="tfgpu-Gpu-name" title={`${gpu.name}\n${gpu.uuid}`}>
          {modelName(gpu.name)}
        </h3>
        <span
          className="tfgpu-Gpu-use"
          title={trans.__('Share of time in which something ran on it')}
        >
          {percent(gpu.use_percent)}
        </span>
      </header>
      <Chart
        times={history.times}
        use={series.use_percent}
        memory={series.used_bytes}
        mostMemory={gpu.memory?.total_bytes}
        now={now}
        width={300}
        height={40}
        label={label}
      />
      <Device {...props} device={gpu} title={trans.__('GPU %1', gpu.index)} />
      {gpu.mig.map(mig => (
        <section
          key={mig.uuid}
          className="tfgpu-Mig"
          aria-label={mig.name ?? mig.uuid}
        >
          <h4 className="tfgpu-Mig-name" title={mig.uuid}>
            {mig.name ?? trans.__('MIG device')}
          </h4>
          <Device {...props} device={mig} title={mig.name ?? mig.uuid} />
        </section>
      ))}
    </section>
  );
}

/** A device's memory as a bar and in words, and the list of its holders. */
function Device(
  props: {
    device: {
      uuid: string;
      memory: IDeviceMemory | null;
      holders: IHolders | null;
    };
    title: string;
  } & IContext
): React.ReactElement {
  const { device, title, kernels, sort, trans } = props;
  const { memory, holders } = device;
  const rows = sorted(rowsOn(device, kernels), sort);
  return (
    <>
      {memory && <MemoryBar {...props} memory={memory} holders={holders} />}
      {rows.length > 0 && (
        <ul
          className="tfgpu-Rows"
          aria-label={trans.__('Notebooks on %1', title)}
        >
          {rows.map(row => (
            <Row key={row.kernel.kernel_id} row={row} onDevice {...props} />
          ))}
        </ul>
      )}
      <dl className="tfgpu-Rest">
        {holders && holders.warm.processes > 0 && (
          <Rest
            kind="warm"
            name={trans._n(
              '%1 warm kernel',
              '%1 warm kernels',
              holders.warm.processes
            )}
            value={bytes(holders.warm.used_bytes)}
          />
        )}
        {holders && holders.others.processes > 0 && (
          <Rest
            kind="others"
            name={trans._n(
              '%1 other process',
              '%1 other processes',
              holders.others.processes
            )}
            value={bytes(holders.others.used_bytes)}
          />
        )}
        {memory &&
          memory.reserved_bytes !== null &&
          memory.reserved_bytes > 0 && (
            <Rest
              kind="reserved"
              name={trans.__('Driver’s own')}
              value={bytes(memory.reserved_bytes)}
            />
          )}
      </dl>
    </>
  );
}

/** One line of what is no notebook's. */
function Rest(props: {
  kind: string;
  name: string;
  value: string;
}): React.ReactElement {
  return (
    <div className="tfgpu-Rest-line">
      <dt>
        <span
          className="tfgpu-Swatch"
          data-kind={props.kind}
          aria-hidden="true"
        />
        {props.name}
      </dt>
      <dd>{props.value}</dd>
    </div>
  );
}

/** Who holds how much of a device, to scale. */
function MemoryBar(
  props: { memory: IDeviceMemory; holders: IHolders | null } & IContext
): React.ReactElement {
  const { memory, holders, kernels, trans, warnPercent } = props;
  const parts: { key: string; bytes: number; kind: string; hue?: number }[] =
    [];
  let told = 0;
  for (const share of holders?.kernels ?? []) {
    parts.push({
      key: share.kernel_id,
      bytes: share.used_bytes ?? 0,
      kind: 'kernel',
      hue: hue(share.kernel_id, kernels)
    });
    told += share.used_bytes ?? 0;
  }
  const warm = holders?.warm.used_bytes ?? 0;
  parts.push({ key: 'warm', bytes: warm, kind: 'warm' });
  // what is used and nobody's, such as a process that the driver does not name, stands with the others
  parts.push({
    key: 'others',
    bytes: Math.max(0, memory.used_bytes - told - warm),
    kind: 'others'
  });
  const reserved = memory.reserved_bytes ?? 0;
  const share = (part: number): string =>
    `${(100 * part) / memory.total_bytes}%`;
  const full = warnPercent > 0 && fullness(memory) * 100 >= warnPercent;
  return (
    <div className="tfgpu-Memory" data-full={full}>
      <div className="tfgpu-Memory-bar" aria-hidden="true">
        {parts
          .filter(part => part.bytes > 0)
          .map(part => (
            <span
              key={part.key}
              data-kind={part.kind}
              data-hue={part.hue}
              style={{ width: share(part.bytes) }}
            />
          ))}
        <span
          className="tfgpu-Memory-reserved"
          data-kind="reserved"
          style={{ width: share(reserved) }}
        />
      </div>
      <div className="tfgpu-Memory-words">
        <span>{bytesOf(memory.used_bytes, usableBytes(memory), trans)}</span>
        <span>
          {full
            ? trans.__('nearly full · %1 free', bytes(memory.free_bytes))
            : trans.__('%1 free', bytes(memory.free_bytes))}
        </span>
      </div>
    </div>
  );
}

/** One kernel: what it holds, what it does, and what one can do with it. */
export function Row(
  props: { row: IRow; onDevice?: boolean } & IContext
): React.ReactElement {
  const { row, onDevice, act, kernels, trans } = props;
  const { kernel } = row;
  const name = kernelName(kernel, trans);
  const memory = kernel.memory;
  const limit = memory?.limit_bytes ?? null;
  const main = !memory
    ? ''
    : limit === null
      ? trans.__('%1 RAM', bytes(memory.used_bytes))
      : trans.__('%1 RAM', bytesOf(memory.used_bytes, limit, trans));
  const button = (
    verb: Verb,
    icon: LabIcon,
    label: string
  ): React.ReactElement => (
    <button
      type="button"
      className="tfgpu-Row-button"
      title={label}
      aria-label={trans.__('%1: %2', label, name)}
      onClick={() => void act(verb, kernel)}
    >
      <icon.react tag="span" />
    </button>
  );
  return (
    <li className="tfgpu-Row" data-kernel={kernel.kernel_id}>
      <span className="tfgpu-Row-name">
        {onDevice && (
          <span
            className="tfgpu-Swatch"
            data-kind="kernel"
            data-hue={hue(kernel.kernel_id, kernels)}
            aria-hidden="true"
          />
        )}
        {kernel.path ? (
          <button
            type="button"
            className="tfgpu-Row-link"
            title={kernel.path}
            onClick={() => void act('open', kernel)}
          >
            {name}
          </button>
        ) : (
          <span className="tfgpu-Row-link">{name}</span>
        )}
      </span>
      <span className="tfgpu-Row-memory">
        {onDevice ? bytes(row.used_bytes) : ''}
      </span>
      <span className="tfgpu-Row-activity">
        <span data-state={kernel.state}>{activity(kernel, trans)}</span>
        {main && (
          <span
            className="tfgpu-Row-main"
            title={
              limit === null
                ? trans.__('Main memory of its container, which has no limit')
                : trans.__(
                    'Main memory of its container, and the limit at which it is ended'
                  )
            }
          >
            {main}
            {memory && limit !== null && (
              <span
                className="tfgpu-Limit"
                data-full={memory.used_bytes > 0.9 * limit}
                aria-hidden="true"
              >
                <span
                  style={{
                    width: `${Math.min(100, (100 * memory.used_bytes) / limit)}%`
                  }}
                />
              </span>
            )}
          </span>
        )}
      </span>
      <span
        className="tfgpu-Row-buttons"
        role="group"
        aria-label={trans.__('Kernel of %1', name)}
      >
        {button('interrupt', stopIcon, trans.__('Interrupt'))}
        {button('restart', refreshIcon, trans.__('Restart'))}
        {button('shutdown', closeIcon, trans.__('Shut Down'))}
      </span>
    </li>
  );
}
